"""The OpenAPI 3.1 document of the HTTP API, generated from the types that are sent and the routes that are served.

What a field means is read from the text below it in its class. An endpoint without an entry in OPERATIONS, or an
entry without an endpoint, is an error here, so that nothing is served that is not described.
"""

import ast
import asyncio
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

import msgspec
from aiohttp import web

from aggregator.api.operations import JSON, OPERATIONS, YAML, Content, Operation, Parameter
from common.fleet_api import NDJSON, Problem
from common.formats import Format, dump_plain
from common.version import VERSION

_PROBLEM: Final = "application/problem+json"
_EVERYWHERE: Final = (400, 401, 403, 406, 500, 503)
_TEXTS: Final = {
    400: "The request makes no sense.",
    401: "No valid credential was given.",
    403: "The user may not.",
    404: "There is no such thing, or nothing is known yet.",
    406: "None of the formats accepted is offered.",
    408: "The request's body did not come in time.",
    413: "The body is too large.",
    415: "The body is encoded, or something else than JSON.",
    429: "Too much is under way; Retry-After says when to try again.",
    500: "A defect; or a run that failed.",
    503: "Not at the moment; Retry-After says when to try again.",
}


def endpoint(route: web.RouteDef) -> str:
    """Its method and path as OpenAPI and OPERATIONS write them."""
    return f"{route.method} {re.sub(r':[^}]*}', '}', route.path)}"


def describe(routes: Iterable[web.RouteDef]) -> dict[str, Any]:
    """The document. Raises ValueError when routes and OPERATIONS are not about the same endpoints."""
    served = {endpoint(route): route for route in routes}
    if served.keys() != OPERATIONS.keys():
        raise ValueError(f"not served and described both: {sorted(served.keys() ^ OPERATIONS.keys())}")
    paths: dict[str, dict[str, Any]] = {}
    for name, operation in OPERATIONS.items():
        method, path = name.split(" ")
        paths.setdefault(path, {})[method.lower()] = _operation(served[name], path, operation)
    document = {
        "openapi": "3.1.0",
        "info": {
            "title": "Eidos",
            "version": VERSION,
            "description": "Every node of a fleet in one snapshot. Errors are problems (RFC 9457): match `type`, "
            "which stays the same, and never the text.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/", "description": "The aggregator that serves this document."}],
        "security": [{"bearer": []}],
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer", "description": "A user's token."}},
        },
    }
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(document))  # defaults may be tuples
    return plain


def _operation(route: web.RouteDef, path: str, operation: Operation) -> dict[str, Any]:
    text = inspect.getdoc(route.handler) or ""
    described: dict[str, Any] = {
        "operationId": getattr(route.handler, "__name__", path),
        "summary": text.split("\n\n")[0].replace("\n", " "),
        "description": text,
        "parameters": [_parameter(parameter) for parameter in operation.parameters],
        "responses": {str(status): _answer(content) for status, content in operation.answers.items()},
    }
    if operation.is_open:
        described["security"] = []
    else:
        statuses = sorted({*_EVERYWHERE, *operation.problems} if path.startswith("/v1/") else (401, 403, 503))
        described["responses"] |= {str(status): _problem(status) for status in statuses}
    if operation.body is not None:
        content = {"schema": _schema(operation.body), "example": operation.body_example}
        described["requestBody"] = {"required": operation.body_required, "content": {JSON: content}}
    return described


def _parameter(parameter: Parameter) -> dict[str, Any]:
    listed = {"style": "form", "explode": False} if parameter.schema["type"] == "array" else {}
    example = {"example": parameter.example} if parameter.example is not None else {}
    return {
        "name": parameter.name,
        "in": parameter.where,
        "required": parameter.required or parameter.where == "path",
        "description": parameter.text,
        "schema": dict(parameter.schema),
        **listed,
        **example,
    }


def _answer(content: Content) -> dict[str, Any]:
    headers = {name: {"description": text, "schema": {"type": "string"}} for name, text in content.headers.items()}
    bodies = {media: {"schema": _body(kind, media)} for media, kind in content.types.items()}
    return {
        "description": content.text,
        **({"headers": headers} if headers else {}),
        **({"content": bodies} if bodies else {}),
    }


def _body(kind: Any, media: str) -> dict[str, Any]:
    if kind is None:
        return {"type": "string"}
    if media == NDJSON:
        names = " or ".join(_schema(one)["$ref"] for one in _each(kind))
        return {"type": "string", "description": f"An object a line: {names}."}
    return _schema(kind)


def _each(kind: Any) -> tuple[type, ...]:
    """The members of a union; of anything else itself."""
    return get_args(kind) or (kind,)


def _schema(kind: type) -> dict[str, Any]:
    return {"type": "object"} if kind is dict else {"$ref": f"#/components/schemas/{kind.__name__}"}


def _problem(status: int) -> dict[str, Any]:
    return {"description": _TEXTS[status], "content": {_PROBLEM: {"schema": _schema(Problem)}}}


def _schemas() -> dict[str, Any]:
    """Of all types that are sent or taken, and those they consist of."""
    kinds: set[type] = {Problem}
    for operation in OPERATIONS.values():
        sent = [kind for content in operation.answers.values() for kind in content.types.values() if kind is not None]
        kinds.update(one for kind in sent for one in _each(kind))
        kinds.update([operation.body] if operation.body else [])
    ordered = sorted(kinds - {dict}, key=lambda kind: kind.__name__)
    _, components = msgspec.json.schema_components(ordered, ref_template="#/components/schemas/{name}")
    for kind in _structs(ordered):
        texts = _field_texts(kind)
        for name, schema in components[kind.__name__]["properties"].items():
            if name in texts:
                schema["description"] = texts[name]
    return {name: components[name] for name in sorted(components)}


def _structs(kinds: Iterable[type]) -> Iterable[type[msgspec.Struct]]:
    """All structs that the types given consist of."""
    found: dict[type[msgspec.Struct], None] = {}
    todo = list(msgspec.inspect.multi_type_info(kinds))
    while todo:
        one = todo.pop()
        if isinstance(one, msgspec.inspect.StructType):
            if one.cls in found:
                continue
            found[one.cls] = None
            todo.extend(of.type for of in one.fields)
        elif isinstance(one, msgspec.inspect.UnionType):
            todo.extend(one.types)
        elif isinstance(one, msgspec.inspect.DictType):
            todo.append(one.value_type)
        elif isinstance(one, msgspec.inspect.CollectionType):
            todo.append(one.item_type)
    return found


def _field_texts(kind: type[msgspec.Struct]) -> Mapping[str, str]:
    """What is written below each field, by the name it is sent under."""
    sent = {of.name: of.encode_name for of in msgspec.structs.fields(kind)}
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    texts: dict[str, str] = {}
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    for line, below in itertools.pairwise(body):
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name) and isinstance(below, ast.Expr):
            text = below.value.value if isinstance(below.value, ast.Constant) else None
            if isinstance(text, str):
                texts[sent[line.target.id]] = " ".join(text.split())
    return texts


class DescriptionApi:
    """Serves the document."""

    def __init__(self, routes: Iterable[web.RouteDef]) -> None:
        """It describes these routes and its own."""
        self._routes = [*routes, *self.routes()]
        self._written: dict[Format, bytes] = {}

    def routes(self) -> list[web.RouteDef]:
        """What is served."""
        return [web.get("/v1/openapi.json", self.openapi_json), web.get("/v1/openapi.yaml", self.openapi_yaml)]

    async def openapi_json(self, request: web.Request) -> web.Response:
        """This description of the API, OpenAPI 3.1."""
        return await self._answer(Format.JSON, JSON)

    async def openapi_yaml(self, request: web.Request) -> web.Response:
        """This description of the API, OpenAPI 3.1."""
        return await self._answer(Format.YAML, YAML)

    async def _answer(self, form: Format, media: str) -> web.Response:
        if form not in self._written:
            self._written[form] = await asyncio.to_thread(lambda: dump_plain(describe(self._routes), form))
        response = web.Response(body=self._written[form], content_type=media, headers={"Cache-Control": "no-cache"})
        response.enable_compression()
        return response
