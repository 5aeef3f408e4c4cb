"""Installs a fleet into a cluster and takes it out again: the objects of manifests/fleet, applied, watched, removed.

Runs on the user's machine. Speaks to Kubernetes through common.kube only, and to the aggregator not at all.

    async with Kube(load_target()) as kube:
        report = await install(kube, Settings(overlays=("gpu-nodes",)), Observer(), seconds=300)
        await uninstall(kube, "eidos", Observer())
"""
