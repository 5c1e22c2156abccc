"""Hashing off the event loop: in order within an upload, in parallel between digests and uploads.

Filled blocks are handed to a small pool of threads through one narrow interface. A thread takes
what is waiting of *different* lanes (a lane is one digest of one upload) and brings them forward
in one call, ``_advance``; with hashlib behind it, that call simply loops.
"""

import asyncio
import hashlib
import queue
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

BATCH = 8
"""Lanes that one thread brings forward in one call, at most."""


class _State(Protocol):
    def update(self, data: memoryview, /) -> None: ...
    def hexdigest(self) -> str: ...


class _Mark:
    """A point in the stream; resolved when every lane has passed it."""

    def __init__(self, lanes: int, loop: asyncio.AbstractEventLoop) -> None:
        self._left = lanes
        self._lock = threading.Lock()
        self._loop = loop
        self.passed: asyncio.Future[None] = loop.create_future()

    def pass_one(self) -> None:
        with self._lock:
            self._left -= 1
            last = self._left == 0
        if last and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if not self.passed.done():
            self.passed.set_result(None)


class _Lane:
    """One digest of one upload. ``waiting`` holds blocks and marks in order; the lane stands in
    the pool's line, or is with a thread, exactly while ``scheduled``."""

    def __init__(self, state: _State) -> None:
        self.state = state
        self.waiting: deque[memoryview | _Mark] = deque()
        self.scheduled = False
        self.lock = threading.Lock()


class Digests:
    """The digests of one upload. Fed and read by the event loop's thread only."""

    def __init__(self, pool: "DigestPool", algorithms: Sequence[str]) -> None:
        self._pool = pool
        self._lanes = {name: _Lane(hashlib.new(name, usedforsecurity=False)) for name in algorithms}

    def feed(self, data: memoryview) -> None:
        """Hash these bytes next. They must not change until a later ``mark`` is passed."""
        for lane in self._lanes.values():
            self._pool.submit(lane, data)

    def mark(self) -> asyncio.Future[None]:
        """Resolved when all that was fed so far is hashed."""
        loop = asyncio.get_running_loop()
        if not self._lanes:
            passed: asyncio.Future[None] = loop.create_future()
            passed.set_result(None)
            return passed
        mark = _Mark(len(self._lanes), loop)
        for lane in self._lanes.values():
            self._pool.submit(lane, mark)
        return mark.passed

    def drop(self) -> None:
        """Forget what is still waiting: the upload broke, nobody will ask for a digest."""
        for lane in self._lanes.values():
            lane.waiting.clear()

    def hexdigests(self) -> dict[str, str]:
        """Lower-case hex by algorithm; only after a mark set at the end has passed."""
        return {name: lane.state.hexdigest() for name, lane in self._lanes.items()}


class DigestPool:
    def __init__(self, threads: int) -> None:
        self._line: queue.SimpleQueue[_Lane | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"digest-{number}", daemon=True)
            for number in range(max(1, threads))
        ]
        for thread in self._threads:
            thread.start()

    def open(self, algorithms: Sequence[str]) -> Digests:
        return Digests(self, algorithms)

    def close(self) -> None:
        for _ in self._threads:
            self._line.put(None)
        for thread in self._threads:
            thread.join()

    def submit(self, lane: _Lane, item: memoryview | _Mark) -> None:
        with lane.lock:
            lane.waiting.append(item)
            if lane.scheduled:
                return
            lane.scheduled = True
        self._line.put(lane)

    def _run(self) -> None:
        while True:
            lane = self._line.get()
            if lane is None:
                return
            lanes = [lane]
            # leave the other threads their share
            share = min(BATCH, self._line.qsize() // len(self._threads))
            for _ in range(share):
                try:
                    another = self._line.get_nowait()
                except queue.Empty:
                    break
                if another is None:
                    self._line.put(None)
                    break
                lanes.append(another)
            _advance(lanes)
            for done in lanes:
                with done.lock:
                    done.scheduled = bool(done.waiting)
                if done.scheduled:
                    self._line.put(done)


def _advance(lanes: Sequence[_Lane]) -> None:
    """Bring each lane forward by one block, and past the marks behind it."""
    for lane in lanes:
        hashed = False
        while True:
            try:
                item = lane.waiting[0]
                if isinstance(item, memoryview) and hashed:
                    break
                item = lane.waiting.popleft()
            except IndexError:  # dropped meanwhile
                break
            if isinstance(item, _Mark):
                item.pass_one()
            else:
                lane.state.update(item)
                hashed = True
