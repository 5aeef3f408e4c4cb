"""The `eidos` command: parsing and rendering only. Whatever it does lives in the packages below it."""
