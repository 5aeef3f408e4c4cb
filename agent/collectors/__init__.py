"""The collectors, one file each, in one explicit list (`registry.py`).

A collector reads one source of one host and returns a Collected. It never decides what is stable or volatile
(common/stability.toml does), never writes, and never raises for trouble it can foresee.
"""
