"""Speaks for the whole fleet: triggers collection, folds what the nodes answer, reports drift.

May use common; must not import agent or cli.
"""
