"""One process that serves: started by the supervisor with a listening socket and its settings.

Arguments: the socket's descriptor, and that of a pipe which is told when serving begins. The
settings come as JSON on standard input, so that no secret stands on a command line.
"""

import asyncio
import ctypes
import gc
import multiprocessing
import os
import signal
import socket
import sys
from contextlib import suppress

import uvloop

from tidegate.app import run_worker
from tidegate.catalog.engine import is_current
from tidegate.domain.errors import TidegateError
from tidegate.server import CANNOT_START
from tidegate.settings import Settings, SettingsError
from tidegate.telemetry import configure_logging

GC_THRESHOLD = (20_000, 20, 20)
"""A request makes hundreds of objects and hardly a cycle: look more rarely than by default."""


async def _serve(settings: Settings, listener: socket.socket, tell: int) -> None:
    started, stopping, at_once = asyncio.Event(), asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        (at_once if stopping.is_set() else stopping).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    working = asyncio.ensure_future(run_worker(settings, listener, started, stopping))
    telling = asyncio.ensure_future(started.wait())
    await asyncio.wait({working, telling}, return_when=asyncio.FIRST_COMPLETED)
    if started.is_set():
        os.write(tell, b"+")
        _settle()
    telling.cancel()
    leaving = asyncio.ensure_future(at_once.wait())
    await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
    if not working.done():
        os._exit(1)  # told twice to stop: as if killed, and the janitor mends it
    leaving.cancel()
    await working


def _settle() -> None:
    """What the start has left over goes back to the system, and what serving begins with stays:
    the collector need not look at it again."""
    gc.collect()
    with suppress(AttributeError):  # another C library than glibc has none
        ctypes.CDLL(None).malloc_trim(0)
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLD)


def _upgrade_apart(url: str) -> None:
    """In a child, with which Alembic and all that it has loaded leave again: a tenth of what a
    worker holds at rest. CatalogDown."""
    if not is_current(url):
        child = multiprocessing.get_context("fork").Process(target=_upgrade, args=(url,))
        child.start()
        child.join()


def _upgrade(url: str) -> None:
    from tidegate.catalog.upgrade import upgrade

    with suppress(TidegateError):  # which opening the catalog will say again
        upgrade(url)


def main() -> int:
    listener = socket.socket(fileno=int(sys.argv[1]))
    tell = int(sys.argv[2])
    settings = Settings.model_validate_json(sys.stdin.buffer.read())
    configure_logging()
    try:
        _upgrade_apart(settings.catalog.url)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, listener, tell))
    except (TidegateError, SettingsError) as error:
        sys.stderr.write(f"tidegate: {error}\n")
        return CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main())
