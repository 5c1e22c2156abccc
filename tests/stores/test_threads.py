"""Work in threads is waited for, whatever becomes of who asked for it."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tidegate.stores.threads import copy_at, run_through


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


# copying within the kernel

DATA = bytes(range(256)) * 8192


def copied(folder: Path, start: int, stop: int) -> tuple[int, bytes]:
    """The place up to which there was something to copy, and what the copy holds from ``start``."""
    (folder / "a").write_bytes(DATA)
    with (folder / "a").open("rb") as source, (folder / "b").open("w+b") as target:
        at = copy_at(source.fileno(), target.fileno(), start, stop)
    return at, (folder / "b").read_bytes()[start:]


def test_bytes_are_copied_to_their_own_place(tmp_path: Path) -> None:
    assert copied(tmp_path, 1000, 70_001) == (70_001, DATA[1000:70_001])


def test_it_ends_where_the_source_does(tmp_path: Path) -> None:
    assert copied(tmp_path, 1000, len(DATA) + 5) == (len(DATA), DATA[1000:])


def refusing(code: int) -> Callable[..., int]:
    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    return refuse


@pytest.mark.parametrize("name", ["EXDEV", "EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"])
def test_a_kernel_that_does_not_copy_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(os, "copy_file_range", refusing(getattr(errno, name)))
    assert copied(tmp_path, 1000, 1_500_000) == (1_500_000, DATA[1000:1_500_000])


def test_a_kernel_that_copies_some_is_asked_for_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.copy_file_range
    monkeypatch.setattr(
        os, "copy_file_range", lambda a, b, count, *at: real(a, b, min(count, 100_000), *at)
    )
    assert copied(tmp_path, 7, 1_500_000) == (1_500_000, DATA[7:1_500_000])


def test_a_file_system_that_copies_nothing_and_says_nothing_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "copy_file_range", lambda *_: 0)
    assert copied(tmp_path, 7, 1_500_000) == (1_500_000, DATA[7:1_500_000])


def test_a_disk_without_room_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "copy_file_range", refusing(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        copied(tmp_path, 0, 1000)
