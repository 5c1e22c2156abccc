import socket
import threading
import time

import pytest
from tests.kit.sources import pattern

from tidegate.bench.blobs import CHUNK, Blob, NoRoom, Pool, Throttle


def received(pool: Pool, data: bytes, *, keep: bool = True) -> Blob:
    """A blob of bytes that came over a connection."""
    near, far = socket.socketpair()
    with near, far:
        sender = threading.Thread(target=far.sendall, args=(data,))
        sender.start()
        blob = Blob(pool, keep=keep)
        blob.receive(near, len(data))
        sender.join()
    return blob


def test_what_was_received_is_what_is_read() -> None:
    data = pattern(3 * CHUNK + 5)
    blob = received(Pool(8 * CHUNK), data)
    assert blob.size == len(data)
    assert blob.read() == data


def test_memory_is_used_again_once_nobody_holds_it() -> None:
    pool = Pool(4 * CHUNK)
    for seed in range(5):
        data = pattern(3 * CHUNK, seed)
        assert received(pool, data).read() == data


def test_a_pool_has_a_bound() -> None:
    pool = Pool(3 * CHUNK)
    held = Blob(pool, keep=True)
    held.append(pattern(2 * CHUNK))
    with pytest.raises(NoRoom):
        Blob(pool, keep=True).append(b"x")


def test_discarded_bytes_take_no_room() -> None:
    assert received(Pool(2 * CHUNK), pattern(4 * CHUNK), keep=False).size == 4 * CHUNK


def test_a_body_that_ends_early_is_an_error() -> None:
    near, far = socket.socketpair()
    with near:
        with far:
            far.sendall(b"some")
        with pytest.raises(ConnectionResetError):
            Blob(Pool(2 * CHUNK), keep=True).receive(near, 5)


def test_a_throttle_lets_nobody_be_early() -> None:
    throttle = Throttle(rate=1000)
    begun = time.monotonic()
    for _ in range(3):
        throttle.take(25)
    assert time.monotonic() - begun >= 0.05  # the last one begins when the others are through
