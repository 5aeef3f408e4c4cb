"""What every part of Eidos speaks: documents, digests, stability classes, errors.

Nothing here may import agent, aggregator or cli. kubernetes_asyncio is imported in common.kube only.
"""
