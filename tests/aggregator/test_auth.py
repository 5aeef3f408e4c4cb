"""Tokens: whose they are, and everything that makes one open nothing."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from aggregator.auth import AgentIdentity, Authenticator, TokenRefusedError
from aggregator.signer import LOCAL_ISSUER, LOCAL_SERVICE_ACCOUNT, LocalSigner
from aggregator.users import Credentials, TokenUser

SIGNER = LocalSigner()
MADE_UP = LocalSigner().token("n")


class Reviewer:
    """A TokenReview that always says the same."""

    def __init__(self) -> None:
        self.asked = 0

    async def review(self, token: str) -> AgentIdentity:
        self.asked += 1
        return AgentIdentity("reviewed", "pod", 0.0, 1.0)


def authenticator(**changes: Any) -> Authenticator:
    options: dict[str, Any] = {"keys": SIGNER, "issuer": LOCAL_ISSUER, "service_account": LOCAL_SERVICE_ACCOUNT}
    return Authenticator(**{**options, **changes})


async def test_the_node_is_the_one_in_the_claim() -> None:
    token = SIGNER.token("gpu-001", pod="uid-1", now=time.time() - 5, seconds=60)
    identity = await authenticator().identify(token)
    assert (identity.node, identity.pod) == ("gpu-001", "uid-1")
    assert identity.expires_at - identity.issued_at == 60


@pytest.mark.parametrize(
    ("token", "why"),
    [
        ("", "no token"),
        ("x" * 20_000, "too long"),
        ("not.a.token", "no JSON Web Token"),
        (SIGNER.token("n", now=time.time() - 7200), "has expired"),
        (SIGNER.token("n", now=time.time() + 7200), "not valid yet"),
        (SIGNER.token("n", audience="kube-apiserver"), "another audience"),
        (SIGNER.token("n", claims={"iss": "https://elsewhere"}), "another issuer"),
        (SIGNER.token("n", claims={"sub": "system:serviceaccount:default:default"}), "another service account"),
        (LocalSigner().token("n"), "unknown key"),
        (SIGNER.token("../etc"), "cannot be one"),
        (SIGNER.token("n", claims={"exp": "soon"}), "malformed|not numbers"),
        (SIGNER.token("n", claims={"kubernetes.io": {"pod": {"uid": "p"}}}), "bound to no node"),
        (SIGNER.token("n", claims={"kubernetes.io": "n"}), "bound to no node"),
        (
            SIGNER.token("n", claims={"kubernetes.io": {"node": {"name": ["n"]}, "pod": {"uid": "p"}}}),
            "bound to no node",
        ),
        (jwt.encode({"aud": "eidos-aggregator"}, "", algorithm="none"), "not accepted"),
        (jwt.encode({"aud": "eidos-aggregator"}, "k" * 32, algorithm="HS256"), "not accepted"),
    ],
)
async def test_tokens_that_open_nothing(token: str, why: str) -> None:
    with pytest.raises(TokenRefusedError, match=why):
        await authenticator().identify(token)


async def test_a_token_changed_by_one_character_opens_nothing() -> None:
    header, body, signature = SIGNER.token("n").split(".")
    forged = f"{header}.{body}.{('A' if signature[5] != 'A' else 'B').join((signature[:5], signature[6:]))}"
    with pytest.raises(TokenRefusedError):
        await authenticator().identify(forged)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda b: b.hex() + "." + b.hex() + ".x"))
async def test_any_text_is_refused_and_breaks_nothing(token: str) -> None:
    with pytest.raises(TokenRefusedError):
        await authenticator().identify(token)


async def test_a_key_set_that_holds_a_symmetric_key_signs_nothing() -> None:
    class Symmetric:
        async def fetch(self) -> Mapping[str, Any]:
            return {"keys": [{"kty": "oct", "k": "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5", "kid": "s", "alg": "HS256"}]}

    token = jwt.encode({"aud": "eidos-aggregator"}, "keykeykeykeykeykeykeykeykeykeykeykey", "HS256", {"kid": "s"})
    with pytest.raises(TokenRefusedError):
        await authenticator(keys=Symmetric()).identify(token)


async def test_a_symmetric_key_does_not_hide_a_public_one() -> None:
    class Both:
        async def fetch(self) -> Mapping[str, Any]:
            public = [*(await SIGNER.fetch())["keys"]]
            same = {"kty": "oct", "k": "a2V5a2V5a2V5a2V5a2V5a2V5a2V5a2V5", "alg": "HS256", "kid": public[0]["kid"]}
            return {"keys": [*public, same]}

    assert (await authenticator(keys=Both()).identify(SIGNER.token("n1"))).node == "n1"


async def test_a_reviewer_is_asked_only_when_the_claims_do_not_say() -> None:
    reviewer = Reviewer()
    who = authenticator(reviewer=reviewer)
    assert (await who.identify(SIGNER.token("n"))).node == "n"
    assert reviewer.asked == 0
    old_cluster = SIGNER.token("n", claims={"kubernetes.io": {"pod": {"name": "p", "uid": "u"}}})
    assert (await who.identify(old_cluster)).node == "reviewed"
    assert (await who.identify(LocalSigner().token("n"))).node == "reviewed"
    assert reviewer.asked == 2


async def test_made_up_keys_are_reviewed_a_few_at_a_time_and_keep_out_nobody_whose_key_is_known() -> None:
    now, reviewer = 0.0, Reviewer()
    who = authenticator(reviewer=reviewer, monotonic=lambda: now)

    async def made_up() -> int:
        """How many of many were reviewed."""
        before = reviewer.asked
        for _ in range(200):
            with suppress(OSError):
                await who.identify(MADE_UP)
        return reviewer.asked - before

    assert await made_up() == 64
    assert (await who.identify(SIGNER.token("n"))).node == "n"
    old_cluster = SIGNER.token("n", claims={"kubernetes.io": {"pod": {"name": "p", "uid": "u"}}})
    assert (await who.identify(old_cluster)).node == "reviewed"
    now += 1.0
    assert await made_up() == 8


async def test_where_no_keys_are_published_a_whole_fleet_is_reviewed() -> None:
    class NoKeys:
        async def fetch(self) -> Mapping[str, Any]:
            return {"keys": []}

    reviewer = Reviewer()
    who = authenticator(keys=NoKeys(), reviewer=reviewer)
    for _ in range(200):
        await who.identify(MADE_UP)
    assert reviewer.asked == 200


class Keys:
    """A cluster's key set, which is there when `ready` is."""

    def __init__(self) -> None:
        self.fetched = 0
        self.signer = SIGNER
        self.broken = False
        self.ready = asyncio.Event()
        self.ready.set()

    async def fetch(self) -> Mapping[str, Any]:
        self.fetched += 1
        await self.ready.wait()
        if self.broken:
            raise OSError("the API server is away")
        return await self.signer.fetch()


async def test_unknown_keys_do_not_make_it_fetch_the_key_set_again_and_again() -> None:
    keys = Keys()
    who = authenticator(keys=keys)
    for _ in range(20):
        with pytest.raises(TokenRefusedError):
            await who.identify(LocalSigner().token("n"))
    assert keys.fetched == 1


async def test_thousands_at_once_wait_for_one_fetch() -> None:
    keys, reviewer = Keys(), Reviewer()
    keys.ready.clear()
    who = authenticator(keys=keys, reviewer=reviewer)
    asked = [asyncio.create_task(who.identify(SIGNER.token(f"n{n}"))) for n in range(200)]
    await asyncio.sleep(0)
    asked[0].cancel()  # others wait for it too
    keys.ready.set()
    identities = await asyncio.gather(*asked[1:])
    assert {identity.node for identity in identities} == {f"n{n}" for n in range(1, 200)}
    assert (keys.fetched, reviewer.asked) == (1, 0)


async def test_keys_that_cannot_be_had_send_nobody_to_the_reviewer() -> None:
    now = 1000.0
    keys, reviewer = Keys(), Reviewer()
    keys.broken = True
    who = authenticator(keys=keys, reviewer=reviewer, monotonic=lambda: now)
    for _ in range(20):
        with pytest.raises(OSError, match="away"):
            await who.identify(SIGNER.token("n"))
    assert (keys.fetched, reviewer.asked) == (1, 0)
    keys.broken, now = False, 1010.0
    assert (await who.identify(SIGNER.token("n"))).node == "n"


async def test_a_key_that_was_withdrawn_counts_for_minutes_at_most() -> None:
    now = 1000.0
    keys = Keys()
    who = authenticator(keys=keys, monotonic=lambda: now)
    token = SIGNER.token("n")
    await who.identify(token)
    now, keys.broken = 1300.0, True
    assert (await who.identify(token)).node == "n", "what was good still is while nobody can tell"
    now, keys.broken, keys.signer = 1600.0, False, LocalSigner()
    with pytest.raises(TokenRefusedError, match="unknown key"):
        await who.identify(token)
    assert keys.fetched == 3


async def test_tokens_signed_as_kubernetes_signs_them() -> None:
    key = rsa.generate_private_key(65537, 2048)
    public: dict[str, Any] = dict(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True))

    class Cluster:
        async def fetch(self) -> Mapping[str, Any]:
            return {"keys": [{**public, "kid": "cluster", "alg": "RS256", "use": "sig"}]}

    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    claims = jwt.decode(SIGNER.token("gpu-9"), options={"verify_signature": False})
    token = jwt.encode(claims, pem, "RS256", {"kid": "cluster"})
    assert (await authenticator(keys=Cluster()).identify(token)).node == "gpu-9"


async def test_a_signer_goes_on_after_a_restart() -> None:
    again = LocalSigner(SIGNER.key_pem)
    assert (await authenticator(keys=again).identify(SIGNER.token("n"))).node == "n"


@pytest.mark.parametrize(
    ("header", "user"),
    [
        ("Bearer secret", "owner"),
        ("bearer secret", "owner"),
        ("Bearer Secret", None),
        ("Bearer ", None),
        ("Basic secret", None),
        ("secret", None),
        ("", None),
        ("Bearer sécret\udcff", None),
    ],
)
async def test_a_local_fleets_user(header: str, user: str | None) -> None:
    known = await TokenUser("secret").authenticate(Credentials(CIMultiDict({"Authorization": header})))
    assert (known and known.name) == user
