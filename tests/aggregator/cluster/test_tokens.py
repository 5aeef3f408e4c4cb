"""Agents' tokens in a cluster: the published keys first, a TokenReview where they do not say whose a token is."""

import asyncio
from typing import Any

import msgspec
import pytest

from aggregator.auth import AgentIdentity, Authenticator, TokenRefusedError
from aggregator.cluster.tokens import CONFIGURATION, KEYS, ClusterKeys, TokenReviewer
from aggregator.signer import LOCAL_ISSUER, LocalSigner
from common.kube.client import Kube, KubeError
from common.wire import AUDIENCE
from tests.aggregator.cluster.conftest import kube_of
from tests.fakes.apiserver import FakeApiServer

ACCOUNT = "eidos:eidos-agent"
USERNAME = f"system:serviceaccount:{ACCOUNT}"
POD = "authentication.kubernetes.io/pod-uid"
NODE = "authentication.kubernetes.io/node-name"


class Answers:
    """Stands in for the client: gives and takes what a test says."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.reviews: list[Any] = []

    async def get(self, path: str, kind: Any, **more: Any) -> Any:
        answer = self.answers["keys" if path == KEYS else "configuration"]
        assert path in (KEYS, CONFIGURATION)
        if isinstance(answer, KubeError):
            raise answer
        return msgspec.convert(answer, kind)

    async def create(self, path: str, body: Any, kind: Any) -> Any:
        assert path == "/apis/authentication.k8s.io/v1/tokenreviews"
        self.reviews.append(body["spec"])
        answer = self.answers["review"]
        if isinstance(answer, KubeError):
            raise answer
        return msgspec.convert({"status": answer}, kind)


def kube(answers: Answers) -> Kube:
    return answers  # type: ignore[return-value]  # as much of it as is needed


def refused(status: int) -> KubeError:
    from common.errors import Code

    return KubeError(Code.CLUSTER_FORBIDDEN, "refused", status=status)


def good(**extra: list[str]) -> dict[str, Any]:
    return {"authenticated": True, "user": {"username": USERNAME, "extra": extra}, "audiences": [AUDIENCE]}


def of(username: str) -> dict[str, Any]:
    """A review of a token that is good, and whose it is."""
    return {**good(), "user": {"username": username, "extra": {POD: ["u"], NODE: ["n1"]}}}


async def identify(answers: Answers, token: str, node: str | None = None) -> AgentIdentity:
    keys = ClusterKeys(kube(answers))
    reviewer = TokenReviewer(kube(answers), ACCOUNT, lambda pod: node)
    return await Authenticator(keys, await keys.load(), ACCOUNT, reviewer).identify(token)


async def keys_of(signer: LocalSigner) -> dict[str, Any]:
    return dict(await signer.fetch())


async def test_a_token_is_verified_without_asking_about_it() -> None:
    signer = LocalSigner()
    answers = Answers(configuration={"issuer": LOCAL_ISSUER}, keys=await keys_of(signer))
    identity = await identify(answers, signer.token("n1", claims={"sub": USERNAME}))
    assert identity.node == "n1"
    assert answers.reviews == []


@pytest.mark.parametrize("status", [403, 404])
async def test_where_no_keys_are_published_every_token_is_reviewed(status: int) -> None:
    signer = LocalSigner()
    review = good(**{POD: ["uid-1"], NODE: ["n1"]})
    answers = Answers(configuration=refused(status), review=review)
    token = signer.token("claimed", claims={"sub": USERNAME})
    assert (await identify(answers, token)).node == "n1", "what the cluster says, not the token"
    assert answers.reviews == [{"token": token, "audiences": [AUDIENCE]}]


async def test_a_review_that_names_no_node_is_completed_by_the_pod() -> None:
    answers = Answers(configuration=refused(404), review=good(**{POD: ["uid-1"]}))
    assert (await identify(answers, LocalSigner().token("x"), node="n7")).node == "n7"
    with pytest.raises(TokenRefusedError, match="bound to no pod on a node"):
        await identify(answers, LocalSigner().token("x"), node=None)


@pytest.mark.parametrize(
    ("review", "why"),
    [
        ({"authenticated": False}, "does not accept"),
        ({**good(**{POD: ["u"], NODE: ["n1"]}), "audiences": []}, "does not accept"),
        ({**good(**{POD: ["u"], NODE: ["n1"]}), "user": {"username": "system:admin"}}, "another service account"),
        (of(f"system:serviceaccount:{ACCOUNT}-2"), "another service account"),
        (of("system:serviceaccount:eidos:default"), "another service account"),
        (of("system:serviceaccount:other:eidos-agent"), "another service account"),
        (good(**{NODE: ["n1"]}), "bound to no pod"),
        (good(**{POD: ["u"], NODE: ["../n1"]}), "bound to no pod"),
    ],
)
async def test_what_a_review_refuses(review: dict[str, Any], why: str) -> None:
    answers = Answers(configuration=refused(404), review=review)
    with pytest.raises(TokenRefusedError, match=why):
        await identify(answers, LocalSigner().token("n1"))


async def test_an_api_server_that_cannot_be_asked_is_no_refusal() -> None:
    for answers in (
        Answers(configuration=refused(404), review=refused(500)),
        Answers(configuration={"issuer": LOCAL_ISSUER}, keys=refused(500)),
    ):
        with pytest.raises(OSError, match="cannot"):
            await identify(answers, LocalSigner().token("n1"))


async def test_reviews_that_hang_hold_up_nobody_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aggregator.cluster.tokens._ANSWERED_WITHIN", 0.01)

    class Hanging(Answers):
        async def create(self, path: str, body: Any, kind: Any) -> Any:
            await asyncio.Event().wait()

    reviewer = TokenReviewer(kube(Hanging()), ACCOUNT, lambda pod: None)
    asked = (reviewer.review(LocalSigner().token("n1")) for _ in range(20))
    told = await asyncio.gather(*asked, return_exceptions=True)
    assert {str(each) for each in told} == {"the API server cannot review tokens: it does not answer"}


async def test_more_than_can_be_reviewed_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aggregator.cluster.tokens._MOST_WAITING", 3)

    class Distant(Answers):
        async def create(self, path: str, body: Any, kind: Any) -> Any:
            await asyncio.sleep(0)
            return await super().create(path, body, kind)

    answers = Distant(review=good(**{POD: ["u"], NODE: ["n1"]}))
    reviewer, token = TokenReviewer(kube(answers), ACCOUNT, lambda pod: None), LocalSigner().token("n1")
    for _ in range(2):  # who has been told leaves room for others
        told = await asyncio.gather(*(reviewer.review(token) for _ in range(5)), return_exceptions=True)
        assert [str(each) for each in told if isinstance(each, OSError)] == ["too many tokens wait for review"] * 2
    assert len(answers.reviews) == 6


async def test_an_issuer_that_cannot_be_asked_for_is_asked_again(api: FakeApiServer) -> None:
    with pytest.raises(KubeError):
        await ClusterKeys(kube(Answers(configuration=refused(500)))).load()
    async with kube_of(api) as client:
        assert await ClusterKeys(client).load() == "", "this API server has no such path"
