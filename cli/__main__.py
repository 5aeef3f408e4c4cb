"""`python -m cli`: the same as `eidos`."""

from cli.entry import main

main()
