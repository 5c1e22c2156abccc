import hashlib
from collections.abc import Iterator

import pytest

from tidegate.transfer.digest import DigestPool


@pytest.fixture
def pool() -> Iterator[DigestPool]:
    pool = DigestPool(2)
    yield pool
    pool.close()


async def test_digests_are_those_of_the_bytes_in_the_order_fed(pool: DigestPool) -> None:
    digests = pool.open(["md5", "sha512"])
    data = bytes(range(256)) * 4096
    for at in range(0, len(data), 100_000):
        digests.feed(memoryview(data)[at : at + 100_000])
    await digests.mark()
    assert digests.hexdigests() == {
        "md5": hashlib.md5(data).hexdigest(),
        "sha512": hashlib.sha512(data).hexdigest(),
    }


async def test_a_mark_passes_when_what_was_fed_before_is_hashed(pool: DigestPool) -> None:
    digests = pool.open(["md5"])
    block = bytearray(b"first" * 100_000)
    digests.feed(memoryview(block))
    await digests.mark()
    expected = hashlib.md5(block).hexdigest()
    block[:] = bytes(len(block))  # the memory is somebody else's now
    assert digests.hexdigests()["md5"] == expected


async def test_without_algorithms_a_mark_passes_at_once(pool: DigestPool) -> None:
    digests = pool.open([])
    digests.feed(memoryview(b"data"))
    assert digests.mark().done()
    assert digests.hexdigests() == {}


async def test_many_uploads_are_hashed_side_by_side(pool: DigestPool) -> None:
    bodies = [bytes([number]) * 300_000 for number in range(20)]
    uploads = [pool.open(["md5", "sha256"]) for _ in bodies]
    for _ in range(3):
        for digests, body in zip(uploads, bodies, strict=True):
            digests.feed(memoryview(body))
    for digests, body in zip(uploads, bodies, strict=True):
        await digests.mark()
        assert digests.hexdigests()["sha256"] == hashlib.sha256(body * 3).hexdigest()


async def test_dropping_forgets_what_waits_and_leaves_others_alone(pool: DigestPool) -> None:
    dropped, kept = pool.open(["sha512"]), pool.open(["sha512"])
    for _ in range(50):
        dropped.feed(memoryview(bytes(10**6)))
    dropped.drop()
    kept.feed(memoryview(b"kept"))
    await kept.mark()
    assert kept.hexdigests()["sha512"] == hashlib.sha512(b"kept").hexdigest()


async def test_an_algorithm_hashlib_does_not_know_is_an_error(pool: DigestPool) -> None:
    with pytest.raises(ValueError, match="nope"):
        pool.open(["nope"])
