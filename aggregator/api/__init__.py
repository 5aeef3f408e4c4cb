"""The HTTP API under /v1: parses requests and renders answers. What it shows is made below it.

Endpoints are registered in one list (`routes.py`). Errors leave as RFC 9457 problem documents, from one place.
"""
