"""`kubectl create` of a FleetSnapshot: what it says is checked as kube-apiserver checks, then a run is started."""

import asyncio
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from aggregator.apiservice.request import Form, wanted_form
from aggregator.apiservice.resource import Resource, json_answer
from aggregator.apiservice.runs import RunSource, Shown
from aggregator.apiservice.status import StatusError, invalid
from aggregator.apiservice.types import FLEET_API_VERSION, FleetSnapshot, FleetSnapshotSpec, ObjectMeta
from common.model import MeasurementType

_NAME: Final = re.compile(r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?")
_BEGINNING: Final = re.compile(r"[a-z0-9][-a-z0-9.]{0,247}")
_LABEL: Final = re.compile(r"[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_MOST_METADATA: Final = 16 << 10
"""Bytes of labels and annotations together: objects are kept in memory."""
_MOST_WARNINGS: Final = 10
_FIELDS: Final = frozenset(("apiVersion", "kind", "metadata", "spec", "status"))
_SPEC_FIELDS: Final = frozenset(field.encode_name for field in msgspec.structs.fields(FleetSnapshotSpec))


class Creator:
    """The handler of POST."""

    def __init__(self, source: RunSource, resource: Resource[Shown], body_within: float) -> None:
        self._source = source
        self._resource = resource
        self._body_within = body_within

    async def create(self, request: web.Request) -> web.StreamResponse:
        """Start a run; 201 with the object, which says how far it is."""
        form = wanted_form(request.headers.get("Accept", ""))
        asked = await self._read(request)
        unknown = list(_unknown(asked))
        validation = request.query.get("fieldValidation", "Warn")
        if unknown and validation == "Strict":
            raise StatusError(400, "strict decoding error: " + ", ".join(unknown))
        metadata = _metadata(asked)
        spec = _spec(asked, metadata.name)
        if dry_run := request.query.getall("dryRun", []):
            if set(dry_run) != {"All"}:
                raise StatusError(422, 'CreateOptions.meta.k8s.io "" is invalid: dryRun: the only value is All')
            self._source.check(spec)
            name = self._source.free_name(metadata)
            shown = FleetSnapshot(
                api_version=FLEET_API_VERSION,
                kind=self._source.kind,
                metadata=msgspec.structs.replace(metadata, name=name),
                spec=spec,
            )
            body = msgspec.json.encode(shown)
        else:
            name = self._source.start(metadata, spec)
            await self._resource.look()
            body = self._resource.encoded(name, form if form.is_table else Form.PLAIN)
        answer = json_answer(body, 201)
        if validation == "Warn":
            for text in unknown[:_MOST_WARNINGS]:
                answer.headers.add("Warning", f"299 - {msgspec.json.encode(text).decode()}")
        return answer

    async def _read(self, request: web.Request) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(self._body_within):
                content = await request.read()
        except TimeoutError as error:
            raise StatusError(408, "the request's body did not come in time") from error
        if request.content_type not in ("application/json", "application/octet-stream"):
            raise StatusError(415, f"a body of {request.content_type} cannot be read: send application/json")
        try:
            asked = msgspec.json.decode(content, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise StatusError(400, f"the body is no object of JSON: {error}") from error
        told = asked.get("apiVersion", FLEET_API_VERSION), asked.get("kind", self._source.kind)
        if told != (FLEET_API_VERSION, self._source.kind):
            raise StatusError(400, f"the body is {told[0]} {told[1]}, not {FLEET_API_VERSION} {self._source.kind}")
        return asked


def _unknown(asked: Mapping[str, Any]) -> Iterator[str]:
    """Fields that there are not, in kube-apiserver's words."""
    spec = asked.get("spec")
    for key in sorted(asked.keys() - _FIELDS):
        yield f'unknown field "{key[:100]}"'
    for key in sorted(spec.keys() - _SPEC_FIELDS) if isinstance(spec, dict) else ():
        yield f'unknown field "spec.{key[:100]}"'


def _metadata(asked: Mapping[str, Any]) -> ObjectMeta:
    """What of it is the caller's to say. Raises StatusError (422)."""
    try:
        metadata = msgspec.convert(_set(asked.get("metadata")), ObjectMeta)
    except msgspec.ValidationError as error:
        raise _wrong("metadata", error) from error
    if metadata.name and not _NAME.fullmatch(metadata.name):
        raise _invalid("metadata.name", f"{metadata.name[:253]!r} is no name of an object", metadata.name)
    if not metadata.name and not _BEGINNING.fullmatch(metadata.generate_name):
        raise _invalid("metadata.name", "a name, or a generateName to make one of, is required")
    _check_pairs(metadata)
    return ObjectMeta(metadata.name, metadata.generate_name, labels=metadata.labels, annotations=metadata.annotations)


def _check_pairs(metadata: ObjectMeta) -> None:
    """Labels and annotations as kube-apiserver would have them. Raises StatusError (422)."""
    for field, pairs in (("labels", metadata.labels), ("annotations", metadata.annotations)):
        for key in pairs:
            prefix, slash, name = key.rpartition("/")
            if not _LABEL.fullmatch(name) or bool(slash) != bool(_NAME.fullmatch(prefix)):
                raise _invalid(f"metadata.{field}", f"{key[:80]!r} is no key", metadata.name)
    for value in filter(None, metadata.labels.values()):
        if not _LABEL.fullmatch(value):
            raise _invalid("metadata.labels", f"{value[:80]!r} is no value of a label", metadata.name)
    if len(msgspec.json.encode((metadata.labels, metadata.annotations))) > _MOST_METADATA:
        raise _invalid("metadata.annotations", f"more than {_MOST_METADATA} bytes with the labels", metadata.name)


def _spec(asked: Mapping[str, Any], name: str) -> FleetSnapshotSpec:
    """What is asked of the fleet. Raises StatusError (422)."""
    given = _set(asked.get("spec"))
    if isinstance(given, dict):
        given = {key: value for key, value in given.items() if key in _SPEC_FIELDS}
    try:
        spec = msgspec.convert(given, FleetSnapshotSpec)
    except msgspec.ValidationError as error:
        raise _wrong("spec", error, name) from error
    unknown = set(spec.sections) - {kind.value for kind in MeasurementType}
    if unknown:
        raise _invalid("spec.sections", f"{min(unknown)[:40]!r} is none of {', '.join(MeasurementType)}", name)
    return spec


def _set(part: Any) -> Any:
    """Without fields that are null: kube-apiserver takes them as not set."""
    return {key: value for key, value in part.items() if value is not None} if isinstance(part, dict) else part or {}


def _wrong(part: str, error: msgspec.ValidationError, name: str = "") -> StatusError:
    """A value of another type or size than its field has: `Expected `int` >= 1 - at `$.seconds``."""
    why, _, place = str(error).partition(" - at ")
    return _invalid(part + place.strip("`$"), why.replace("`", ""), name)


def _invalid(field: str, why: str, name: str = "") -> StatusError:
    return invalid("FleetSnapshot", name, field, why)
