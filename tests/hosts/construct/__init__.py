"""Hosts that were never recorded, put together from documented formats. tests/hosts/README.md says what they are."""
