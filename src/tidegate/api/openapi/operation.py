"""One call as it is written down, and the refusals that follow from what it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from tidegate.api.journal import OPEN

Schema = Mapping[str, Any]
JSON = "application/json"
DATA = "application/octet-stream"
TEXT = "text/plain"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a success is: its body by media type (nothing: no body), and its own headers."""

    content: Mapping[str, Schema] = field(default_factory=dict)
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """``body`` by media type; ``refuses``: statuses that do not follow from the rest."""

    method: str
    path: str
    summary: str
    answers: Mapping[int, Answer]
    body: Mapping[str, Schema] = field(default_factory=dict)
    body_optional: bool = False
    query: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, Schema] = field(default_factory=dict)
    refuses: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.path


STRING: Schema = {"type": "string"}
NOTHING = Answer()


def call(
    method: str, path: str, summary: str, answer: Answer, status: int = 200, **more: Any
) -> Operation:
    """One that has a single kind of success."""
    return Operation(method=method, path=path, summary=summary, answers={status: answer}, **more)


def ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def json_of(schema: Schema, *headers: str) -> Answer:
    return Answer({JSON: schema}, headers)


def shown(name: str, *headers: str) -> Answer:
    """JSON of the component of that name."""
    return json_of(ref(name), *headers)


def described(operation: Operation) -> dict[str, Any]:
    """As OpenAPI's operation object."""
    responses: dict[str, Any] = {
        str(status): _success(status, answer) for status, answer in operation.answers.items()
    }
    for status in sorted(refusals(operation) - operation.answers.keys()):
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    found: dict[str, Any] = {
        "operationId": _identifier(operation),
        "summary": operation.summary,
        "tags": [operation.path.split("/")[1] if operation.path.startswith("/v") else "gateway"],
        "parameters": _parameters(operation),
        "responses": responses,
    }
    if operation.path in OPEN:
        found["security"] = []
    if operation.body:
        found["requestBody"] = {
            "required": not operation.body_optional,
            "content": {media: {"schema": schema} for media, schema in operation.body.items()},
        }
    return found


def refusals(operation: Operation) -> set[int]:
    """What HTTP and the gateway may always say, and what goes with a body, a path or a change."""
    found = {400, 403, 500, *operation.refuses}
    if operation.path not in OPEN:
        found |= {401, 429, 503}
        if operation.method not in ("GET", "HEAD"):
            found |= {409}
    if "{" in operation.path:
        found |= {404}
    if operation.body:
        found |= {413, 415}
    if DATA in operation.body:
        found |= {408, 410, 502}
    return found


def refusal(status: int) -> dict[str, Any]:
    """As OpenAPI's response object: one shape for all."""
    found: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "headers": {"X-Openstack-Request-Id": _header("X-Openstack-Request-Id")},
        "content": {
            JSON: {"schema": ref("Error")},
            "text/html": {"schema": {"type": "string"}},
        },
    }
    own = {401: "WWW-Authenticate", 405: "Allow", 415: "Accept-Patch", 416: "Content-Range",
           429: "Retry-After", 503: "Retry-After"}  # fmt: skip
    if status in own:
        found["headers"][own[status]] = _header(own[status])
    return found


def _success(status: int, answer: Answer) -> dict[str, Any]:
    names = ("X-Openstack-Request-Id", *answer.headers)
    found: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "headers": {name: _header(name) for name in names},
    }
    if answer.content:
        found["content"] = {
            media: {"schema": schema} if schema else {} for media, schema in answer.content.items()
        }
    return found


def _header(name: str) -> dict[str, Any]:
    return {"schema": {"type": "string"}}


def _identifier(operation: Operation) -> str:
    words = operation.path.replace("{", "by_").replace("}", "").replace(".", "_").strip("/")
    slash = "_slash" if operation.path.endswith("/") else ""
    return f"{operation.method.lower()}_{words.replace('/', '_').replace('-', '_')}{slash}"


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found = [
        {"name": piece[1:-1], "in": "path", "required": True,
         "schema": {"type": "string", "minLength": 1}}
        for piece in operation.path.split("/")
        if piece.startswith("{")
    ]  # fmt: skip
    for place, given in (("query", operation.query), ("header", operation.headers)):
        found += [{"name": name, "in": place, "schema": schema} for name, schema in given.items()]
    return found
