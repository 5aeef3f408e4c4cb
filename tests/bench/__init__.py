"""Benchmarks: `python -m tests.bench`. Each is measured beside a peer or a floor in the same run."""
