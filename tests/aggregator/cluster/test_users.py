"""A cluster's users: whose a token is, what its owner may do, and how seldom the API server is asked."""

import asyncio
from collections.abc import Mapping
from typing import Any

import jwt
import msgspec
import pytest
from multidict import CIMultiDict

from aggregator.cluster.users import KEPT, REFUSED, STALE, ClusterUsers
from aggregator.users import Access, Credentials, User
from common.errors import ClusterError, Code

READ = Access("get", "fleets", "api", "eidos")
ALICE = {"username": "alice", "uid": "1", "groups": ["dev", "system:authenticated"], "extra": {"scopes": ["a", "b"]}}


class Cluster:
    """Answers reviews. `users` by token; `rights` are (user, verb, resource or path)."""

    def __init__(self) -> None:
        self.users: dict[str, dict[str, Any]] = {"good": ALICE}
        self.rights: set[tuple[str, str, str]] = {("alice", "get", "fleets/api")}
        self.asked: list[Mapping[str, Any]] = []
        self.down = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def create(self, path: str, body: Any, kind: Any) -> Any:
        self.asked.append(body)
        await self.answers.wait()
        if self.down:
            raise ClusterError(Code.CLUSTER_UNREACHABLE, "no route")
        spec, status = body["spec"], dict[str, Any]()
        if path == "/apis/authentication.k8s.io/v1/tokenreviews":
            user = self.users.get(spec["token"])
            status = {"authenticated": True, "user": user} if user else {"error": "unknown"}
        elif path == "/apis/authorization.k8s.io/v1/subjectaccessreviews":
            asked = spec.get("resourceAttributes") or {"resource": spec["nonResourceAttributes"]["path"]}
            verb = (spec.get("resourceAttributes") or spec["nonResourceAttributes"])["verb"]
            what = "/".join(filter(None, (asked["resource"], asked.get("subresource", ""))))
            status = {"allowed": (spec["user"], verb, what) in self.rights, "reason": "RBAC"}
        return msgspec.convert({"status": status}, kind)


class Nobody:
    """No front proxy."""

    def user(self, credentials: Credentials) -> User | None:
        return None


class Scene:
    def __init__(self, cluster: Cluster | None = None) -> None:
        self.cluster = cluster or Cluster()
        self.now = 0.0
        self.users = ClusterUsers(self.cluster, Nobody(), lambda: self.now)

    async def who(self, token: str) -> str | None:
        user = await self.users.authenticate(bearing(token))
        return user.name if user else None


def bearing(token: str) -> Credentials:
    return Credentials(CIMultiDict({"Authorization": f"Bearer {token}"}))


@pytest.fixture
async def scene() -> Scene:
    return Scene()


async def test_a_tokens_owner_with_groups_and_extras(scene: Scene) -> None:
    user = await scene.users.authenticate(bearing("good"))
    assert user == User("alice", "1", ("dev", "system:authenticated"), (("scopes", ("a", "b")),))
    assert await scene.users.refusal(user, READ) == ""
    assert await scene.users.refusal(user, Access("create", "fleets", "api", "eidos")) == "RBAC"
    reviewed = scene.cluster.asked[-1]["spec"]
    assert reviewed["extra"] == {"scopes": ("a", "b")}
    assert reviewed["resourceAttributes"] == {
        "group": "fleet.eidos.nvidia.com",
        "version": "v1alpha1",
        "resource": "fleets",
        "subresource": "api",
        "name": "eidos",
        "verb": "create",
    }
    await scene.users.refusal(user, Access("get", path="/metrics"))
    assert scene.cluster.asked[-1]["spec"]["nonResourceAttributes"] == {"path": "/metrics", "verb": "get"}


@pytest.mark.parametrize("token", ["", " ", "x" * 20_000, "é", "bad"])
async def test_what_proves_nobody(scene: Scene, token: str) -> None:
    assert await scene.who(token) is None


async def test_an_agents_token_is_not_even_shown_to_the_api_server(scene: Scene) -> None:
    for audience in ("eidos-aggregator", ["https://kubernetes.default.svc", "eidos-aggregator"]):
        token = jwt.encode({"aud": audience, "sub": "system:serviceaccount:eidos:eidos-agent"}, "k" * 32)
        scene.cluster.users[token] = {"username": "system:serviceaccount:eidos:eidos-agent"}
        assert await scene.who(token) is None
    assert scene.cluster.asked == []
    token = jwt.encode({"aud": "https://kubernetes.default.svc"}, "k" * 32)
    scene.cluster.users[token] = ALICE
    assert await scene.who(token) == "alice"
    assert "audiences" not in scene.cluster.asked[-1]["spec"]


async def test_answers_are_kept_for_seconds_and_refusals_for_less(scene: Scene) -> None:
    for _ in range(5):
        assert (await scene.who("good"), await scene.who("bad")) == ("alice", None)
    assert len(scene.cluster.asked) == 2
    del scene.cluster.users["good"]
    scene.cluster.users["bad"] = ALICE
    scene.now = REFUSED + 0.1
    assert (await scene.who("good"), await scene.who("bad")) == ("alice", "alice")
    scene.now = KEPT + 0.1
    assert await scene.who("good") is None


async def test_a_right_taken_away_is_gone_soon(scene: Scene) -> None:
    user = User("alice")
    assert await scene.users.refusal(user, READ) == ""
    scene.cluster.rights.clear()
    assert await scene.users.refusal(user, READ) == ""
    scene.now = KEPT + 0.1
    assert await scene.users.refusal(user, READ) == "RBAC"
    assert await scene.users.refusal(User("alice", groups=("other",)), READ) == "RBAC", "another user altogether"


async def test_equal_questions_at_the_same_time_are_one(scene: Scene) -> None:
    scene.cluster.answers.clear()
    asking = [asyncio.create_task(scene.who("good")) for _ in range(50)]
    await asyncio.sleep(0)
    asking[0].cancel()
    await asyncio.sleep(0)
    scene.cluster.answers.set()
    assert set(await asyncio.gather(*asking[1:])) == {"alice"}, "one that goes takes nobody along"
    assert len(scene.cluster.asked) == 1


async def test_strangers_cannot_make_us_ask_without_end(scene: Scene) -> None:
    scene.cluster.answers.clear()
    asking = [asyncio.create_task(scene.who(f"made-up-{number}")) for number in range(200)]
    await asyncio.sleep(0.05)
    assert len(scene.cluster.asked) == 64
    scene.cluster.answers.set()
    told = await asyncio.gather(*asking, return_exceptions=True)
    assert sum(isinstance(each, OSError) for each in told) == 136
    assert await scene.who("good") == "alice"


async def test_strangers_keep_no_known_user_out(scene: Scene) -> None:
    assert await scene.who("good") == "alice"
    scene.now += KEPT + 1
    scene.cluster.answers.clear()
    asking = [asyncio.create_task(scene.who(f"made-up-{number}")) for number in range(64)]
    await asyncio.sleep(0)
    assert await scene.who("good") == "alice"
    scene.cluster.answers.set()
    await asyncio.gather(*asking)


async def test_made_up_tokens_are_asked_for_only_so_often(scene: Scene) -> None:
    assert await scene.who("good") == "alice"
    told = [await _outcome(scene, f"made-up-{number}") for number in range(5000)]
    assert told.count("busy") > 4500
    asked = len(scene.cluster.asked)
    scene.now += KEPT + 1
    assert await scene.who("good") == "alice"
    assert len(scene.cluster.asked) == asked + 1
    scene.now += 1
    assert await scene.who("made-up-4999") is None, "there is room again"


async def _outcome(scene: Scene, token: str) -> str | None:
    try:
        return await scene.who(token)
    except OSError:
        return "busy"


async def test_what_is_remembered_has_an_end(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aggregator.cluster.users._MOST", 10)
    await scene.who("good")
    for number in range(20):
        await scene.who(f"made-up-{number}")
    asked = len(scene.cluster.asked)
    await scene.who("made-up-19")
    assert len(scene.cluster.asked) == asked
    await scene.who("made-up-0")
    assert len(scene.cluster.asked) == asked + 1
    scene.cluster.down = True
    scene.now += KEPT + 1
    assert await scene.who("good") == "alice", "strangers push nobody out who is known"


async def test_reviews_that_hang_count_as_none(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aggregator.cluster.users._ANSWERED_WITHIN", 0.01)
    assert await scene.who("good") == "alice"
    scene.now += KEPT + 1
    scene.cluster.answers.clear()
    assert await scene.who("good") == "alice"
    with pytest.raises(OSError, match="cannot be asked"):
        await scene.who("made-up")


async def test_without_the_api_server_nobody_can_tell(scene: Scene) -> None:
    scene.cluster.down = True
    with pytest.raises(OSError, match="no route"):
        await scene.who("good")
    with pytest.raises(OSError, match="no route"):
        await scene.users.refusal(User("alice"), READ)
    scene.cluster.down = False
    assert await scene.who("good") == "alice", "trouble is not remembered"


async def test_who_was_let_in_lately_still_is_while_the_api_server_is_down(scene: Scene) -> None:
    user = await scene.users.authenticate(bearing("good"))
    assert user is not None
    other = Access("create", "fleets", "api", "eidos")
    assert await scene.users.refusal(user, READ) == ""
    assert await scene.users.refusal(user, other) == "RBAC"
    assert await scene.who("bad") is None
    scene.cluster.down = True
    scene.now += KEPT + STALE - 1
    assert await scene.who("good") == "alice"
    assert await scene.users.refusal(user, READ) == ""
    with pytest.raises(OSError, match="cannot be asked"):
        await scene.users.refusal(user, other)  # a refusal is no right
    with pytest.raises(OSError, match="cannot be asked"):
        await scene.who("bad")
    scene.now += 2
    with pytest.raises(OSError, match="cannot be asked"):
        await scene.who("good")


async def test_who_is_fronted_has_been_judged_on_what_is_passed_on(scene: Scene) -> None:
    fronted = User("bob", fronted=True)
    for access in (
        READ,
        Access("list", "nodesnapshots"),
        Access("get", path="/apis"),
        Access("get", path="/openapi/v3"),
    ):
        assert await scene.users.refusal(fronted, access) == ""
    assert scene.cluster.asked == []
    assert await scene.users.refusal(fronted, Access("get", path="/metrics")) == "RBAC"
