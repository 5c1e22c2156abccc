"""Work on files, in threads."""

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

T = TypeVar("T")

_UNCOPIED = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS})
"""What a kernel says that does not copy between these two files."""

_BLOCK = 2**20

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a disk or a quota without room says."""


def write_at(file: int, block: memoryview, at: int) -> int:
    """Write all of it; the place behind it. OSError."""
    while block:
        count = os.pwrite(file, block, at)
        block, at = block[count:], at + count
    return at


def copy_at(source: int, target: int, start: int, stop: int) -> int:
    """Copy bytes [start, stop) of one file to the same place in another, by the kernel where it
    does so; the place up to which there were any. OSError."""
    at = start
    while at < stop and (count := _copied_by_the_kernel(source, target, at, stop)):
        at += count
    while at < stop and (block := os.pread(source, min(_BLOCK, stop - at), at)):
        at = write_at(target, memoryview(block), at)
    return at


def _copied_by_the_kernel(source: int, target: int, start: int, stop: int) -> int:
    """0: at the end of the source, or it does not do so (which some file systems do not say)."""
    try:
        return os.copy_file_range(source, target, stop - start, start, start)
    except OSError as error:
        if error.errno in _UNCOPIED:
            return 0
        raise


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
