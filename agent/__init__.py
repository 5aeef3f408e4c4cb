"""Reads one node: the collectors and what runs them.

May use common; must not import aggregator or cli. Listens on nothing but loopback.
"""
