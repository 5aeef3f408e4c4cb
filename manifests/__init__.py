"""Kustomize bases and overlays. `fleet/` ships with the command, which renders it without kubectl."""
