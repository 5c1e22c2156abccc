"""What is asked of the gateway itself, by machines mostly."""

from collections.abc import Iterator

from tidegate.api.openapi.operation import STRING, TEXT, Answer, Operation, json_of, shown


def operations() -> Iterator[Operation]:
    text = Answer({TEXT: STRING})
    yield _get("/healthz", "Does it live?", {200: text})
    yield _get("/readyz", "Is it ready?", {200: shown("Ready"), 503: shown("Ready")})
    yield _get("/healthcheck", "Does it live? As Glance answers it", {200: text})
    yield Operation(
        method="HEAD", path="/healthcheck", summary="The same, without a body",
        answers={200: Answer({TEXT: {}})},
    )  # fmt: skip
    yield _get("/metrics", "For Prometheus", {200: Answer({TEXT: STRING})})
    yield _get("/statuses.svg", "The life of an image", {200: Answer({"image/svg+xml": STRING})})
    yield _get("/openapi.json", "This document", {200: json_of({"type": "object"})})
    for path in ("/", "/v1", "/v2", "/v2/"):
        yield _get(path, "The versions; any method is answered alike", {300: shown("Versions")})
    for path in ("/versions", "/versions/"):
        yield _get(path, "The versions; any method is answered alike", {200: shown("Versions")})


def _get(path: str, summary: str, answers: dict[int, Answer]) -> Operation:
    return Operation(method="GET", path=path, summary=summary, answers=answers)


_LINK = {
    "type": "object",
    "required": ["rel", "href"],
    "properties": {"rel": STRING, "href": STRING},
}
SCHEMAS = {
    "Ready": {
        "type": "object",
        "required": ["ready", "parts", "failed"],
        "properties": {
            "ready": {"type": "boolean"},
            "parts": {"type": "array", "items": STRING},
            "failed": {"type": "object", "additionalProperties": STRING},
        },
    },
    "Versions": {
        "type": "object",
        "required": ["versions"],
        "properties": {
            "versions": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["id", "status", "links"],
                    "properties": {
                        "id": STRING,
                        "status": {"enum": ["CURRENT", "SUPPORTED", "DEPRECATED"]},
                        "links": {"type": "array", "items": _LINK},
                    },
                },
            }
        },
    },
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["code", "title", "message", "request_id"],
                "properties": {
                    "code": {"type": "integer"},
                    "title": STRING,
                    "message": STRING,
                    "request_id": STRING,
                },
            }
        },
    },
}
