"""A cluster in the test's own process, for what a Deployer does to objects. What pods do, the test plays itself."""

from collections.abc import Callable
from typing import Any

from aiohttp import web

from tests.fakes.apiserver import FakeApiServer
from tests.fakes.objects import Json, Key, RefusalError, Resource

RBAC = "rbac.authorization.k8s.io/v1"
_MORE = (
    Resource("serviceaccounts", "ServiceAccount"),
    Resource("secrets", "Secret"),
    Resource("services", "Service"),
    Resource("persistentvolumeclaims", "PersistentVolumeClaim"),
    Resource("roles", "Role", RBAC),
    Resource("rolebindings", "RoleBinding", RBAC),
    Resource("clusterroles", "ClusterRole", RBAC, namespaced=False),
    Resource("clusterrolebindings", "ClusterRoleBinding", RBAC, namespaced=False),
    Resource(
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
        "authorization.k8s.io/v1",
        namespaced=False,
        verbs=("create",),
    ),
    Resource("deployments", "Deployment", "apps/v1"),
    Resource("leases", "Lease", "coordination.k8s.io/v1"),
    Resource("widgets", "Widget", "example.com/v1"),
    Resource("podmetrics", "PodMetrics", "metrics.k8s.io/v1beta1", verbs=("get", "list")),
)


class JobApi(FakeApiServer):
    """Answers access reviews and dry runs too."""

    def __init__(self) -> None:
        super().__init__()
        self.resources += _MORE
        self.denied: set[tuple[str, str]] = set()
        """(verb, resource) that an access review says no to."""
        self.reviews: list[Json] = []
        self.on_job: Callable[[Json], None] = lambda job: None
        """Called with each Job that is created, as a Job controller would hear of it."""

    def names(self, plural: str) -> list[str]:
        return [item["metadata"]["name"] for item in self.store.all(plural)]

    def one(self, plural: str, name: str) -> Any:
        return next(item for item in self.store.all(plural) if item["metadata"]["name"] == name)

    def everything(self) -> set[tuple[str, Key]]:
        return {(plural, key) for plural, items in self.store.objects.items() for key in items}

    async def _create(self, request: web.Request, resource: Resource, key: Key) -> web.StreamResponse:
        body = await request.json()
        if resource.plural == "selfsubjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            self.reviews.append(asked)
            allowed = (asked["verb"], asked["resource"]) not in self.denied
            return web.json_response({**body, "status": {"allowed": allowed}}, status=201)
        if request.query.get("dryRun") == "All":
            if (key[0], body["metadata"]["name"]) in self.store.objects.get(resource.plural, {}):
                raise RefusalError(409, "AlreadyExists", "already exists", name=body["metadata"]["name"])
            return web.json_response(body, status=201)
        made = await super()._create(request, resource, key)
        if resource.plural == "jobs":
            self.on_job(self.store.get(resource, (key[0], body["metadata"]["name"])))
        return made

    async def _patch(self, request: web.Request, resource: Resource, key: Key) -> web.StreamResponse:
        if request.query.get("dryRun") == "All":
            return web.json_response(self.store.get(resource, key))
        return await super()._patch(request, resource, key)
