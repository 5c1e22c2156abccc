"""What a store is really able to do, found by trying; nothing is left behind."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from uuid import uuid4

from awscrt.checksums import crc64nvme

from tidegate.domain.errors import BadPart, ObjectChanged, ObjectMissing, StoreError
from tidegate.foundation import open_store
from tidegate.settings import HttpStore as HttpSettings
from tidegate.settings import Settings
from tidegate.stores.base import Part, Store
from tidegate.stores.fetch import Fetcher

_PART = 5 * 2**20


@dataclass(slots=True)
class Probe:
    """``results`` maps what was tried to ``yes``, or to what went wrong. ``usable``: what the
    gateway cannot do without works."""

    store: str
    type: str
    usable: bool = True
    results: dict[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


async def probe_all(settings: Settings) -> list[Probe]:
    """Each configured store in turn."""
    found = []
    for one in settings.stores:
        fetcher = Fetcher(settings.fetch, timeout=30)
        probe = Probe(one.id, one.type)
        store = open_store(one, fetcher)
        try:
            await store.open()
            probe.results["reachable"] = "yes"
            if isinstance(one, HttpSettings):
                probe.results["reads only"] = "yes"
            else:
                await _probe(store, probe)
        except StoreError as error:
            probe.usable = False
            probe.results["reachable"] = error.reason
        finally:
            await store.close()
        found.append(probe)
    return found


async def _probe(store: Store, probe: Probe) -> None:
    folder = str(uuid4())
    data = bytes(range(256)) * (_PART // 256)
    required: list[tuple[str, Callable[[Store, str, bytes], Awaitable[str]]]] = [
        ("put, look, read", _whole),
        ("multipart", _multipart),
        ("abort", _abort),
        ("lists unfinished uploads", _unfinished),
        ("ranges", _ranges),
    ]
    optional: list[tuple[str, Callable[[Store, str, bytes], Awaitable[str]]]] = [
        ("verifies parts on arrival", _part_checksum),
        ("pins a version (If-Match)", _pin),
        ("whole-object CRC-64/NVME", _object_checksum),
        ("copies its own objects", _copy),
    ]
    undeleted = ""
    for needed, trials in ((True, required), (False, optional)):
        for name, trial in trials:
            key = f"{folder}/{uuid4().hex}"
            try:
                answer = await trial(store, key, data)
            except StoreError as error:
                answer = f"no: {error.reason}"
            probe.results[name] = answer
            probe.usable = probe.usable and (answer == "yes" or not needed)
            try:
                await store.delete(key)
            except StoreError as error:
                undeleted = f"no: {error.reason}"
    probe.results["deletes"] = undeleted or "yes"
    probe.usable = probe.usable and not undeleted


async def _whole(store: Store, key: str, data: bytes) -> str:
    await store.put(key, _part(data[:1000]))
    same = await _read(store, key) == data[:1000]
    return "yes" if same and (await store.look(key)).size == 1000 else "no: other bytes came back"


async def _multipart(store: Store, key: str, data: bytes) -> str:
    writing = await store.begin(key)
    await writing.put_part(_part(data[:1000], number=2, offset=len(data)))
    await writing.put_part(_part(data))
    await writing.complete(len(data) + 1000, crc64nvme(data[:1000], crc64nvme(data)))
    return "yes" if await _read(store, key) == data + data[:1000] else "no: other bytes came back"


async def _abort(store: Store, key: str, data: bytes) -> str:
    writing = await store.begin(key)
    await writing.put_part(_part(data))
    await store.abort(key, writing.upload_id)
    await store.abort(key, writing.upload_id)
    try:
        await store.look(key)
    except ObjectMissing:
        return "yes"
    return "no: an object is there"


async def _unfinished(store: Store, key: str, data: bytes) -> str:
    writing = await store.begin(key)
    await writing.put_part(_part(data))
    listed = [entry.upload_id async for entry in store.unfinished(key)]
    await store.abort(key, writing.upload_id)
    return "yes" if writing.upload_id in listed else "no: an open upload is not listed"


async def _ranges(store: Store, key: str, data: bytes) -> str:
    await store.put(key, _part(data[:1000]))
    return "yes" if await _read(store, key, 10, 20) == data[10:20] else "no: another range came"


async def _part_checksum(store: Store, key: str, data: bytes) -> str:
    damaged = Part(1, 0, 1000, [memoryview(data[1:1001])], crc64nvme(data[:1000]))
    try:
        await store.put(key, damaged)
    except BadPart:
        return "yes"
    return "no: damaged bytes were accepted"


async def _pin(store: Store, key: str, data: bytes) -> str:
    await store.put(key, _part(data[:1000]))
    try:
        async with store.read(key, etag='"another"'):
            return "no: another version was served"
    except ObjectChanged:
        return "yes"


async def _object_checksum(store: Store, key: str, data: bytes) -> str:
    await store.put(key, _part(data[:1000]))
    same = (await store.look(key)).crc64nvme == crc64nvme(data[:1000])
    return "yes" if same else "no: it keeps none"


async def _copy(store: Store, key: str, data: bytes) -> str:
    if not store.can.copy:
        return "no: copy_parts is off"
    source = f"{key}0"
    try:
        await store.put(source, _part(data))
        return await _copied(store, source, key, data)
    finally:
        await store.delete(source)


async def _copied(store: Store, source: str, key: str, data: bytes) -> str:
    etag = (await store.look(source)).etag
    writing = await store.begin(key)
    try:
        try:
            await writing.copy_part(1, source, 0, 10, etag='"another"')
        except ObjectChanged:
            pass
        else:
            return "no: another version was copied; set copy_parts to false"
        await writing.copy_part(1, source, 10, 1010, etag=etag)
        await writing.complete(1000, crc64nvme(data[10:1010]))
    except StoreError:
        await store.abort(key, writing.upload_id)
        raise
    same = await _read(store, key) == data[10:1010]
    return "yes" if same else "no: other bytes came back; set copy_parts to false"


def _part(data: bytes, *, number: int = 1, offset: int = 0) -> Part:
    return Part(number, offset, len(data), [memoryview(data)], crc64nvme(data))


async def _read(store: Store, key: str, start: int = 0, stop: int | None = None) -> bytes:
    found = bytearray()
    block = memoryview(bytearray(2**20))
    async with store.read(key, start, stop) as reading:
        while count := await reading.readinto(block):
            found += block[:count]
    return bytes(found)
