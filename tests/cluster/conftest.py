"""The cluster's own tests use its fixture."""

from tests.cluster.fixture import cluster, cluster_nodes, pytest_collection_finish

__all__ = ["cluster", "cluster_nodes", "pytest_collection_finish"]
