"""Many small requests over a few kept connections, from one thread: the cheapest way to ask."""

import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence

from tidegate.bench.answers import Answer, BenchError, Head, complete
from tidegate.bench.blobs import TIMEOUT
from tidegate.bench.driver import Target


class _Asking:
    """One connection and the request that it is with."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.number = -1
        self.begun = 0.0
        self.data = b""


def ask_all(
    target: Target,
    messages: Sequence[bytes],
    parallel: int,
    check: Callable[[int, Answer], None],
) -> list[float]:
    """Send every message, ``parallel`` of them at a time; the seconds that each took.

    ``check`` is given each message's number and answer. BenchError: one was not answered.
    """
    seconds = [0.0] * len(messages)
    waiting = deque(range(len(messages)))
    with selectors.DefaultSelector() as selector:
        try:
            for _ in range(min(parallel, len(messages))):
                asking = _Asking(target.connect())
                selector.register(asking.socket, selectors.EVENT_READ, asking)
                _next(asking, messages, waiting)
            left = len(messages)
            while left:
                ready = selector.select(TIMEOUT)
                if not ready:
                    raise BenchError(f"the server was silent for {TIMEOUT} s")
                for key, _ in ready:
                    asking = key.data
                    head, answer = _read(asking)
                    if head is None or answer is None:
                        continue
                    seconds[asking.number] = time.perf_counter() - asking.begun
                    check(asking.number, answer)
                    left -= 1
                    if head.closes:
                        selector.unregister(asking.socket)
                        asking.socket.close()
                        asking.socket = target.connect()
                        selector.register(asking.socket, selectors.EVENT_READ, asking)
                    if waiting:
                        _next(asking, messages, waiting)
        finally:
            for key in list(selector.get_map().values()):
                key.data.socket.close()
    return seconds


def _next(asking: _Asking, messages: Sequence[bytes], waiting: deque[int]) -> None:
    asking.number = waiting.popleft()
    asking.data = b""
    asking.begun = time.perf_counter()
    asking.socket.sendall(messages[asking.number])


def _read(asking: _Asking) -> tuple[Head | None, Answer | None]:
    try:
        more = asking.socket.recv(256 * 2**10)
    except ConnectionResetError:
        more = b""
    asking.data += more
    head = Head.parse(asking.data)
    if head is None:
        if not more:
            raise BenchError("the server closed the connection without an answer")
        return None, None
    return head, complete(head, asking.data, ended=not more)
