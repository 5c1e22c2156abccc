"""Work on files, in threads."""

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a disk or a quota without room says."""


def write_at(file: int, block: memoryview, at: int) -> int:
    """Write all of it; the place behind it. OSError."""
    while block:
        count = os.pwrite(file, block, at)
        block, at = block[count:], at + count
    return at


async def run_through(threads: Executor | None, work: Callable[..., T], *args: object) -> T:
    """What the work gives (``threads`` None: the loop's own). Whoever is cancelled does not leave
    before the thread is through with what it was given: a block of the caller's memory, a file that
    is open."""
    future = asyncio.get_running_loop().run_in_executor(threads, work, *args)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
