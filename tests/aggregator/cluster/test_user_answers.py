"""What one user was told is no other's answer, and what was refused is never given out as allowed."""

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from aggregator.cluster.users import KEPT, REFUSED, STALE
from aggregator.users import Access, User
from tests.aggregator.cluster.test_users import ALICE, READ, Cluster, Scene, bearing

USER = User("alice", "1", ("dev", "ops"), (("scopes", ("a", "b")),))


class Picky(Cluster):
    """Allows what it is asked about one user, who is more than a name."""

    async def create(self, path: str, body: Any, kind: Any) -> Any:
        self.asked.append(body)
        spec = body["spec"]
        user = User(spec["user"], spec["uid"], tuple(spec["groups"]), tuple(spec["extra"].items()))
        return msgspec.convert({"status": {"allowed": user == USER, "reason": "RBAC"}}, kind)


@pytest.mark.parametrize("first", [True, False], ids=["after the one allowed", "before it"])
@pytest.mark.parametrize(
    "other",
    [
        replace(USER, name="bob"),
        replace(USER, uid="2"),
        replace(USER, groups=("dev",)),
        replace(USER, extra=(("scopes", ("a",)),)),
        replace(USER, extra=()),
    ],
    ids=["name", "uid", "groups", "extra's values", "extra"],
)
async def test_users_that_differ_in_anything_share_no_answer(other: User, first: bool) -> None:
    scene = Scene(Picky())
    for user in (USER, other) if first else (other, USER):
        assert (await scene.users.refusal(user, READ) == "") is (user is USER)
    assert len(scene.cluster.asked) == 2


@pytest.mark.parametrize(
    "other",
    [
        replace(READ, verb="create"),
        replace(READ, resource="nodesnapshots"),
        replace(READ, subresource=""),
        replace(READ, name=""),
        Access("get", path="/metrics"),
    ],
    ids=["verb", "resource", "subresource", "name", "path"],
)
async def test_rights_that_differ_in_anything_share_no_answer(other: Access) -> None:
    scene = Scene()
    assert await scene.users.refusal(USER, READ) == ""
    await scene.users.refusal(USER, other)
    assert len(scene.cluster.asked) == 2


async def test_a_review_with_an_error_proves_nobody() -> None:
    """`error` says that the token could not be checked."""

    class Unsure(Cluster):
        async def create(self, path: str, body: Any, kind: Any) -> Any:
            status = {"authenticated": True, "user": ALICE, "error": "a webhook did not answer"}
            return msgspec.convert({"status": status}, kind)

    assert await Scene(Unsure()).who("good") is None


async def test_a_refusal_is_not_given_out_again_while_nobody_can_be_asked() -> None:
    """Its reason was that of another moment."""
    scene = Scene()
    create = Access("create", "fleets", "api", "eidos")
    assert await scene.users.refusal(USER, create) == "RBAC"
    scene.cluster.down = True
    scene.now = REFUSED + 1
    with pytest.raises(OSError, match="cannot be asked"):
        await scene.users.refusal(USER, create)


async def test_what_was_taken_away_does_not_come_back_while_nobody_can_be_asked() -> None:
    scene = Scene()
    assert await scene.users.authenticate(bearing("good"))
    assert await scene.users.refusal(USER, READ) == ""
    scene.cluster.users.clear()
    scene.cluster.rights.clear()
    scene.now = KEPT + 1
    assert await scene.who("good") is None
    assert await scene.users.refusal(USER, READ) == "RBAC"
    scene.cluster.down = True
    scene.now += REFUSED + 1
    assert scene.now < STALE
    with pytest.raises(OSError, match="cannot be asked"):
        await scene.who("good")
    with pytest.raises(OSError, match="cannot be asked"):
        await scene.users.refusal(USER, READ)
