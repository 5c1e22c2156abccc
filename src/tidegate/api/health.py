"""What machines ask: does it live, is it ready, how much did it do."""

import asyncio
import os

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from tidegate.api.journal import JOURNAL
from tidegate.api.keys import READY


async def healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def healthcheck(request: web.Request) -> web.Response:
    """As Glance answers it."""
    return web.Response(text="OK", content_type="text/plain")


async def readyz(request: web.Request) -> web.Response:
    """200, or 503 with what does not answer, and why."""
    parts = await request.app[READY]()
    failed = {part: reason for part, reason in parts.items() if reason is not None}
    return web.json_response(
        {"ready": not failed, "parts": sorted(parts), "failed": failed},
        status=503 if failed else 200,
    )


async def metrics(request: web.Request) -> web.Response:
    """Of all workers together, whichever of them was asked."""
    request.app[JOURNAL].write()
    text = await asyncio.to_thread(_collect)
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _collect() -> bytes:
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    return generate_latest(registry)
