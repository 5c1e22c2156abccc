"""The bare costs that the gateway is measured against: hashing alone, and an HTTP server alone.

Run as a program it is that server: one aiohttp handler that answers JSON, and nothing else.
"""

import asyncio
import hashlib
import json
import socket
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvloop
from aiohttp import web

STEP = 2**20


def hash_alone(views: Sequence[memoryview]) -> float:
    """CPU seconds for MD5 and SHA-512 over these bytes."""
    begun = time.thread_time()
    digests = (hashlib.md5(usedforsecurity=False), hashlib.sha512())
    for view in views:
        for at in range(0, len(view), STEP):
            for digest in digests:
                digest.update(view[at : at + STEP])
    return time.thread_time() - begun


def hash_in_two_threads(views: Sequence[memoryview]) -> float:
    """Seconds on the clock, one thread a digest."""

    def work(digest: Any) -> None:
        for view in views:
            for at in range(0, len(view), STEP):
                digest.update(view[at : at + STEP])

    digests = (hashlib.md5(usedforsecurity=False), hashlib.sha512())
    threads = [threading.Thread(target=work, args=(digest,)) for digest in digests]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return time.perf_counter() - begun


async def _serve(value: Any) -> None:
    async def show(request: web.Request) -> web.Response:
        return web.json_response(value)

    app = web.Application()
    app.router.add_get("/v2/images/{image_id}", show)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        await web.SockSite(runner, listener).start()
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as running:
        running.run(_serve(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
