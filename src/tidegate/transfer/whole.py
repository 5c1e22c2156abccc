"""What a stored object is: how long, its digests when it is read whole, and its format."""

from collections.abc import Awaitable, Callable, Sequence

from awscrt.checksums import crc64nvme

from tidegate.domain.errors import StoreBroke
from tidegate.domain.upload import Sent
from tidegate.stores.base import Store
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.download import Receiving
from tidegate.transfer.inspect import HEAD, TAIL, Inspection
from tidegate.transfer.memory import Arena


async def size_of(store: Store, key: str, known: int | None = None) -> int:
    """In bytes; ``known`` is taken where the store does not say. ObjectMissing, StoreError."""
    found = (await store.look(key)).size
    size = known if found is None else found
    if size is None:
        raise StoreBroke(store.id, "it does not say how long the object is")
    return size


async def read_whole(
    store: Store,
    key: str,
    size: int,
    *,
    algorithms: Sequence[str],
    arena: Arena,
    digests: DigestPool,
    went: Callable[[int], Awaitable[None]] | None = None,
) -> Sent:
    """``went`` is told the bytes of each block, and may hold the reading back or end it.
    ObjectMissing, ObjectChanged, StoreError."""
    digesting, crc = digests.open(algorithms), 0
    receiving = Receiving(store, key, 0, size, size=size, arena=arena)
    try:
        async with receiving.blocks() as blocks:
            async for block in blocks:
                digesting.feed(block)
                crc = crc64nvme(block, crc)
                await digesting.mark()
                if went is not None:
                    await went(len(block))
        return Sent(size, digesting.hexdigests(), crc)
    finally:
        digesting.drop()


async def inspect_stored(
    inspection: Inspection, store: Store, key: str, size: int, *, arena: Arena
) -> int | None:
    """Its virtual size, from the bytes that can tell it: the first and the last ones. WrongFormat,
    UnsafeFormat, ObjectMissing, ObjectChanged, StoreError."""
    middle = min(size, HEAD)
    for start, stop in ((0, middle), (max(middle, size - TAIL), size)):
        if start == stop:
            continue
        receiving = Receiving(store, key, start, stop, size=size, arena=arena)
        async with receiving.blocks() as blocks:
            async for block in blocks:
                inspection.feed(block)
    return inspection.finish(size)
