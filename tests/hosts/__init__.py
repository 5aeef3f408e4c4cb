"""Whole hosts as text, recorded or constructed, and what a snapshot of each says."""
