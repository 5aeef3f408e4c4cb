"""The only way to a Kubernetes API server; the sole importer of kubernetes_asyncio.

    choice.py       whether there is a cluster at all, without importing anything
    target.py       which cluster, from kubeconfig files or the pod's service account
    credentials.py  what to present to it, renewed when it expires
    transport.py    HTTP and TLS, proxies included (aiohttp)
    client.py       Kube: get, list, apply, patch, delete, retried with backoff; watch.py and logs.py stream
    errors.py       what can go wrong, mapped to ClusterError in one place
    discovery.py    which resources there are
    types.py        the few fields we read, decoded by msgspec
    configmaps.py   cm:// documents, configmap_writer.py their writing; sharding.py those beyond 1 MiB
    session.py      one visit to a cluster, for synchronous callers

Knows nothing of collectors, Jobs or the fleet. Nothing heavy is imported before a cluster is asked.
"""
