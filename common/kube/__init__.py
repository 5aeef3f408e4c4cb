"""The only way to a Kubernetes API server; the sole importer of kubernetes_asyncio."""
