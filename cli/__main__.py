"""`python -m cli`: the same as `eidos`."""

from cli.main import main

main()
