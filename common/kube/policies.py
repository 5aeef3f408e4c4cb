"""K8s.policy: the specs of all ClusterPolicies, without the secrets in them."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from common.errors import EidosError
from common.kube.outcomes import failure
from common.model import Absent, Ok, Outcome, Scalar
from common.redaction import REDACTED, names_a_secret, redact_arguments, redact_text

if TYPE_CHECKING:
    from common.kube.client import Kube

_POLICY_KIND: Final = "ClusterPolicy"
_GPU_OPERATOR_GROUP: Final = "nvidia.com"

# Names of other objects, keys of labels and public keys, all of which policies are about.
_NO_SECRET: Final = re.compile(
    r"keys?$|secrets$|public_?keys?$|.*(?:pullSecrets?|Names?|Namespaces?|Refs?|References?|Selectors?|Seconds|Path|File)$",
    re.IGNORECASE,
)


class Policy(NamedTuple):
    """One ClusterPolicy: the API group it belongs to, its name, and its spec."""

    group: str
    name: str
    spec: Mapping[str, Any]


def parse_policies(policies: Iterable[Policy]) -> dict[str, Scalar]:
    """The specs of all policies, flattened into one map.

    Where policies do not agree on a key it is written as `group/name/key` for each of them; the plain key is then
    that of the GPU operator's policy, if there is just one.
    """
    found: defaultdict[str, list[tuple[Policy, str]]] = defaultdict(list)
    for policy in policies:
        for key, value in _distinct(flatten(without_secrets(policy.spec))):
            found[key].append((policy, value))
    data: dict[str, Scalar] = {}
    for key, values in found.items():
        if len({value for _, value in values}) == 1:
            data[key] = values[0][1]
            continue
        ours = [value for policy, value in values if policy.group == _GPU_OPERATOR_GROUP]
        if len(ours) == 1:
            data[key] = ours[0]
        for policy, value in values:
            data[f"{policy.group}/{policy.name}/{key}"] = value
    return data


def without_secrets(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The object with secrets replaced in whatever depth they stand: by key, in name and value pairs, in Secrets."""
    is_secret = spec.get("kind") == "Secret"
    shown: dict[str, Any] = {}
    for key, value in spec.items():
        if key == "stringData" or (is_secret and key == "data"):
            shown[key] = _all_redacted(value)
        elif key == "value" and isinstance(name := spec.get("name"), str):
            shown[key] = _without_secrets(name, value)
        else:
            shown[key] = _without_secrets("" if _NO_SECRET.match(key) else key.rpartition("/")[2], value)
    return shown


def _without_secrets(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return without_secrets(value)
    if isinstance(value, list):
        if not names_a_secret(name, "?") and all(isinstance(item, str) for item in value):
            return redact_arguments(value)
        return [_without_secrets(name, item) for item in value]
    if value is None or isinstance(value, bool):
        return value
    if names_a_secret(name, str(value)):
        return REDACTED
    return redact_text(value) if isinstance(value, str) else value


def _all_redacted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _all_redacted(item) for key, item in value.items()}
    return REDACTED


def flatten(spec: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested keys joined by dots; lists as JSON, all else as its text; an empty object as `{}`."""
    for name, value in spec.items():
        key = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from flatten(value, f"{key}.")
        elif isinstance(value, str):
            yield key, value
        else:
            yield key, msgspec.json.encode(value, order="sorted").decode()


def _distinct(facts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Names with dots can make two places one key (`a.b` and `b` in `a`); the later is then `a.b#2`."""
    seen: set[str] = set()
    for key, value in facts:
        unique, number = key, 1
        while unique in seen:
            number += 1
            unique = f"{key}#{number}"
        seen.add(unique)
        yield unique, value


async def read_policies(kube: "Kube") -> dict[str, Outcome]:
    """The one subtype. Raises KubeError."""
    import asyncio

    from common.kube.discovery import resources_of_kind

    kinds = await resources_of_kind(kube, _POLICY_KIND)
    if not kinds:
        return {"policy": Absent(f"the cluster has no resource of kind {_POLICY_KIND}")}
    results = await asyncio.gather(*(_list_policies(kube, *kind) for kind in kinds), return_exceptions=True)
    policies: list[Policy] = []
    context: dict[str, str] = {}
    for (api_version, resource), result in zip(kinds, results, strict=True):
        group = api_version.partition("/")[0]
        if isinstance(result, BaseException):
            # The GPU operator's are what matters; that others of the name may not be read is worth a word.
            if not isinstance(result, EidosError) or group == _GPU_OPERATOR_GROUP or len(kinds) == 1:
                raise result
            context[f"{resource}.{group}"] = failure(result).reason
        else:
            policies += result
    return {"policy": Ok(parse_policies(policies), context)}


async def _list_policies(kube: "Kube", api_version: str, resource: str) -> list[Policy]:
    from common.kube.call import path_of
    from common.kube.types import Specified

    found, _ = await kube.list(path_of(api_version, resource), Specified)
    group = api_version.partition("/")[0]
    return [Policy(group, item.metadata.name, item.spec) for item in found]
