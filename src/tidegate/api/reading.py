"""Reading what requests say beside image data: small bodies (JSON, strictly, or nothing), texts."""

import json
import re
from typing import Any

import aiohttp
from aiohttp import web

from tidegate.api.keys import SETTINGS
from tidegate.domain.errors import ClientGone, Invalid, TooLarge, Unsupported

MAX_BODY = 2**20
MAX_DEPTH = 32
_FORMS = frozenset({"text/plain", "multipart/form-data", "application/x-www-form-urlencoded"})
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"?', re.DOTALL)  # one without an end is not tried anew
_BRACKET = re.compile(rb"[][{}]")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_QUOTED = re.compile("%([0-9A-Fa-f]{2})")
_SURROGATE = re.compile("[\ud800-\udfff]")


async def read_body(request: web.Request) -> bytes:
    """At most 1 MiB. TooLarge, ClientGone."""
    found = bytearray()
    try:
        async for chunk in request.content.iter_any():
            found += chunk
            if len(found) > MAX_BODY:
                raise TooLarge(f"The request's body is larger than {MAX_BODY} bytes.")
    except (aiohttp.ClientError, OSError, ValueError, web.RequestPayloadError) as error:
        raise ClientGone("The request's body broke off.") from error
    return bytes(found)


async def read_json(request: web.Request) -> Any:
    """An object or array, in UTF-8. Invalid: malformed, nested deeper than 32, a key given
    twice, NaN, a lone surrogate, NUL in a text; Unsupported: of a kind that a form on a web page
    sends, where nothing else tells it from a client's."""
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind in _FORMS and request.app[SETTINGS].auth.mode == "none":
        raise Unsupported("The body must be sent as application/json.")
    body = await read_body(request)
    if not body:
        raise Invalid("Body expected in request.")
    _check_depth(body)
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
        )
    except (ValueError, RecursionError):
        raise Invalid("Malformed JSON in request body.") from None
    if not isinstance(value, dict | list):
        raise Invalid("Unexpected body type. Expected list/dict.")
    if _NUL.search(body):  # databases refuse it
        raise Invalid("A text may not hold the character NUL.")
    if b"\\u" in body and _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise Invalid("Malformed JSON in request body: a lone surrogate is no character.")
    return value


def refuse_body(request: web.Request) -> None:
    """For calls that take none. Invalid."""
    if request.content_length or (
        request.method not in ("GET", "HEAD", "DELETE") and "Transfer-Encoding" in request.headers
    ):
        raise Invalid("A body is not expected with this request.")


def check_query(request: web.Request) -> None:
    """Invalid: it is no UTF-8."""
    if not is_utf8(request.rel_url.raw_query_string):
        raise Invalid("Error decoding your request: the query is no UTF-8.")


def is_utf8(quoted: str) -> bool:
    """Whether a path or a query is that under its percent signs."""
    raw = _QUOTED.sub(lambda match: chr(int(match[1], 16)), quoted)
    try:
        raw.encode("latin-1", "ignore").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _check_depth(body: bytes) -> None:
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", body)):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_DEPTH:
            raise Invalid(f"The JSON is nested deeper than {MAX_DEPTH}.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is given twice")
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")
