"""Every error's answer: one table, looked up by nearest ancestor.

The body is ``{"error": {"code", "title", "message", "request_id"}}``, which all known clients can
show; HTML only for who prefers it to JSON.
"""

import html
import json
from http import HTTPStatus

from aiohttp import web

from tidegate.api.keys import REQUEST_ID
from tidegate.domain import errors as e

ANSWERS: dict[type[e.TidegateError], int] = {
    e.TidegateError: 500,
    e.Invalid: 400,
    e.Unauthenticated: 401,
    e.Forbidden: 403,
    e.NotFound: 404,
    e.Conflict: 409,
    e.Gone: 410,
    e.AddingDisabled: 410,
    e.TooLarge: 413,
    e.RangeRefused: 416,
    e.Unsupported: 415,
    e.ClientGone: 400,
    e.ClientStalled: 408,
    e.SourceBroke: 502,
    e.TargetBroke: 502,
    e.Busy: 429,
    e.CatalogDown: 503,
    e.IdentityDown: 503,
    e.StoreError: 502,
    e.StoreDown: 503,
    e.StoreFull: 413,
    e.ObjectMissing: 502,
}
"""A request that carries image data is never answered 503: clients send the consumed body again
(``status_of``)."""


def status_of(error: e.TidegateError, *, carries_data: bool) -> int:
    status = next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)
    return 502 if status == 503 and carries_data else status


def answer(request: web.BaseRequest, error: e.TidegateError, *, carries_data: bool) -> web.Response:
    status = status_of(error, carries_data=carries_data)
    headers: dict[str, str] = {}
    if isinstance(error, e.Busy):
        headers["Retry-After"] = str(error.retry_after)
    elif status == 503:
        headers["Retry-After"] = "5"
    if isinstance(error, e.Unauthenticated) and error.challenge:
        headers["WWW-Authenticate"] = error.challenge
    if isinstance(error, e.RangeRefused):
        headers["Content-Range"] = f"bytes */{error.size}"
    return render(request, status, error.message, headers)


def from_http(request: web.BaseRequest, error: web.HTTPException) -> web.Response:
    """What the router itself refused."""
    messages = {
        404: "The resource could not be found.",
        405: f"The method {request.method} is not allowed for this resource.",
    }
    allowed = error.headers.get("Allow", "").split(",")
    headers = {"Allow": ", ".join(map(str.strip, allowed))} if allowed != [""] else {}
    return render(request, error.status, messages.get(error.status, error.reason), headers)


def render(
    request: web.BaseRequest, status: int, message: str, headers: dict[str, str] | None = None
) -> web.Response:
    try:
        title = HTTPStatus(status).phrase
    except ValueError:
        title = "Error"
    request_id = request.get(REQUEST_ID, "")
    if _prefers_html(request.headers.get("Accept", "")):
        text = (
            f"<html><head><title>{status} {title}</title></head><body>"
            f"<h1>{status} {title}</h1>{html.escape(message)}<br /><br />{request_id}</body></html>"
        )
        kind, charset = "text/html", "utf-8"
    else:
        error = {"code": status, "title": title, "message": message, "request_id": request_id}
        text = json.dumps({"error": error}, ensure_ascii=False)
        kind, charset = "application/json", None
    # a message may repeat what came in a header, which need not be text
    return web.Response(
        status=status,
        body=text.encode("utf-8", "replace"),
        content_type=kind,
        charset=charset,
        headers=headers,
    )


def _prefers_html(accept: str) -> bool:
    best: dict[str, float] = {}
    for item in accept.split(","):
        kind, *parameters = (piece.strip() for piece in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = parameter.partition("=")
            if name == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        best[kind] = max(quality, best.get(kind, 0.0))
    others = max(best.get("application/json", 0.0), best.get("*/*", 0.0))
    return best.get("text/html", 0.0) > others
