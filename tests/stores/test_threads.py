"""Work in threads is waited for, whatever becomes of who asked for it."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tidegate.stores.threads import run_through


async def test_who_is_cancelled_leaves_only_when_the_thread_is_through() -> None:
    begun, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait()
        done.set()

    with ThreadPoolExecutor() as threads:
        waiting = asyncio.ensure_future(run_through(threads, work))
        await asyncio.to_thread(begun.wait)
        waiting.cancel()
        await asyncio.sleep(0)
        assert not waiting.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert done.is_set()


async def test_what_the_work_gives_or_raises_is_its_askers() -> None:
    with ThreadPoolExecutor() as threads:
        assert await run_through(threads, divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await run_through(threads, divmod, 7, 0)
