"""What each request came to: its metrics, and its line in the log."""

from functools import lru_cache
from typing import Any, NamedTuple

from aiohttp import web
from aiohttp.hdrs import METH_ALL

from tidegate import telemetry
from tidegate.api.keys import CALLER, REQUEST_ID
from tidegate.telemetry import log

OPEN = frozenset(
    {
        "/healthz", "/readyz", "/healthcheck", "/metrics", "/", "/versions", "/versions/",
        "/v1", "/v2", "/v2/",
        "/statuses.svg", "/openapi.json",
    }
)  # fmt: skip
"""Paths that machines ask without a token; the log has only what failed of them."""


WITHIN = 0.005
"""Seconds for which an entry waits for others."""


class _Entry(NamedTuple):
    request: web.Request
    status: int
    seconds: float
    reason: str


class Journal:
    """Entries are written ``WITHIN`` after the first of them, all together: the answers leave
    first, and code that is still warm from one entry writes the next at a third of its price."""

    def __init__(self) -> None:
        self._waiting: list[_Entry] = []

    def note(self, request: web.Request, status: int, seconds: float, reason: str) -> None:
        """``reason``: why it failed, or nothing."""
        if not self._waiting:
            request.task.get_loop().call_later(WITHIN, self.write)
        self._waiting.append(_Entry(request, status, seconds, reason))

    def write(self) -> None:
        """All that is noted."""
        entries, self._waiting = self._waiting, []
        for entry in entries:
            _write(entry)


JOURNAL = web.AppKey("journal", Journal)


@lru_cache(maxsize=4096)
def _meters(method: str, route: str, status: int) -> tuple[Any, Any]:
    return (
        telemetry.REQUESTS.labels(method, route, str(status)),
        telemetry.REQUEST_SECONDS.labels(route),
    )


def _write(entry: _Entry) -> None:
    request, status, seconds, reason = entry
    resource = request.match_info.route.resource
    route = "none" if resource is None else resource.canonical
    method = request.method if request.method in METH_ALL else "other"
    counter, histogram = _meters(method, route, status)
    counter.inc()
    histogram.observe(seconds)
    if route in OPEN and status < 500:
        return
    extra = {"error": reason[:500]} if reason else {}
    caller = request.get(CALLER)
    if caller is not None and caller.token is not None:
        extra["token"] = caller.token
    log.info(
        "request",
        method=request.method,
        path=request.path[:300],
        status=status,
        seconds=round(seconds, 4),
        request_id=request[REQUEST_ID],
        **extra,
    )
