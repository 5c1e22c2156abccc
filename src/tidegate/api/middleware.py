"""Around every request: its id, its caller, its answer when it fails, its entry in the journal."""

import asyncio
import re
import time
from functools import partial
from random import getrandbits
from urllib.parse import urlsplit

from aiohttp import web
from aiohttp.typedefs import Handler

from tidegate.api.errors import answer, from_http, render
from tidegate.api.head import finish_head
from tidegate.api.journal import JOURNAL, OPEN
from tidegate.api.keys import (
    CALLER,
    HOSTS,
    IDENTITY,
    LAST,
    PREPARED,
    REFUSED,
    REQUEST_ID,
    RUNNING,
    SETTINGS,
)
from tidegate.api.proxies import client_address
from tidegate.api.reading import is_utf8
from tidegate.api.v2 import discovery
from tidegate.domain.errors import Forbidden, TidegateError, Unauthenticated
from tidegate.settings import Settings
from tidegate.telemetry import log

_REQUEST_ID = re.compile(r"req-[0-9A-Za-z-]{1,60}")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1", "[::1]"})


@web.middleware
async def frame(request: web.Request, handler: Handler) -> web.StreamResponse:
    begun = time.perf_counter()
    name_request(request)
    app, task = request.app, asyncio.current_task(request.task.get_loop())
    assert task is not None
    running = app[RUNNING]
    running.add(task)
    response: web.StreamResponse
    reason = ""
    try:
        _refuse_unsound(request)
        if request.path not in OPEN:
            request[CALLER] = await app[IDENTITY].caller(
                request.headers, request.method, request.path, partial(client_address, request)
            )
        if not is_utf8(request.rel_url.raw_path):
            raise web.HTTPNotFound  # before it is taken for the name of something
        response = await handler(request)
    except TidegateError as error:
        reason = error.message
        if isinstance(error, Unauthenticated) and discovery.names_none(request):
            response = await discovery.choices(request)
        else:
            response = answer(request, error, carries_data=_carries_data(request))
    except web.HTTPException as error:
        reason = error.reason
        response = await _unrouted(request, error)
    except _Refused as refused:
        reason = refused.reason
        response = render(request, refused.status, reason)
        response.force_close()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        log.exception("request failed", request_id=request[REQUEST_ID], path=request.path)
        if PREPARED in request:
            raise
        response = render(request, 500, "The server failed; its log says why, by the request id.")
    finally:
        running.discard(task)
    if not response.prepared:
        finish_head(request, response)
    if request.get(LAST):
        response.force_close()
    app[JOURNAL].note(request, response.status, time.perf_counter() - begun, reason)
    return response


def name_request(request: web.BaseRequest) -> None:
    """Give it its id: the client's, if it is a sound one."""
    given = request.headers.get("X-Openstack-Request-ID", "")
    if not _REQUEST_ID.fullmatch(given):
        digits = f"{getrandbits(128):032x}"  # a UUID's form, at a fifth of its price
        given = f"req-{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"
    request[REQUEST_ID] = given


class _Refused(Exception):
    """A request that HTTP itself forbids."""

    def __init__(self, status: int, reason: str) -> None:
        self.status = status
        self.reason = reason


def hosts_of(settings: Settings) -> frozenset[str] | None:
    """The ``Host`` names that a gateway without authentication answers to; None: any. A browser
    can be led to a loopback server under any other name (DNS rebinding)."""
    if settings.auth.mode != "none" or settings.server.host not in _LOOPBACK:
        return None
    public = urlsplit(settings.server.public_url).hostname
    return _LOOPBACK | {settings.server.host} | ({public} if public else set())


async def _unrouted(request: web.Request, error: web.HTTPException) -> web.StreamResponse:
    """What names no version of the API gets the list of them."""
    if error.status == 404 and discovery.names_none(request):
        return await discovery.choices(request)
    return from_http(request, error)


def _refuse_unsound(request: web.Request) -> None:
    """_Refused; Forbidden: from another site."""
    if REFUSED in request:
        raise _Refused(*request[REFUSED])
    settings = request.app[SETTINGS]
    if settings.auth.mode != "none":
        return
    host = request.headers.get("Host", "")
    allowed = request.app[HOSTS]
    name = host[: host.find("]") + 1] or host.partition(":")[0]
    if allowed is not None and name and name.lower() not in allowed:
        raise Forbidden("This server does not answer under that host name.")
    origin = request.headers.get("Origin")
    if origin is None:
        return
    own = (f"{request.scheme}://{host}", settings.server.public_url.rstrip("/"))
    if origin not in own:
        raise Forbidden("Requests from other web sites are refused.")


def _carries_data(request: web.Request) -> bool:
    """Whether the request has image data in its body that cannot be sent twice."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        return False
    data = request.content_type == "application/octet-stream" and request.body_exists
    return data and request.method in ("PUT", "POST")
