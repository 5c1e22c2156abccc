"""The read cache through the API: what it answers, what it serves, and what it never serves."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from tests.kit.gateway import Gateway, running
from tests.kit.identity import ADMIN, Named, of
from tests.kit.server import until
from tests.kit.sources import pattern
from tests.kit.stores import FaultyStore

from tidegate.api import keys
from tidegate.domain.errors import StoreDown
from tidegate.stores.memory import MemoryStore

MIB = 2**20
DATA = pattern(3 * MIB + 17)
TARGET = "x-image-cache-clear-target"


def cache_of(folder: Path, **more: Any) -> dict[str, Any]:
    return {"enabled": True, "path": str(folder / "cache"), **more}


@pytest.fixture
async def gate(store: FaultyStore, tmp_path: Path) -> AsyncIterator[Gateway]:
    async with running(
        store,
        tmp_path,
        identity=Named(),
        cache=cache_of(tmp_path, max_size="8MiB"),
        locations={"show": True, "allow_refill": True},
    ) as found:
        yield found


async def listed(gate: Gateway) -> dict[str, dict[str, Any]]:
    answer = await gate.ask("GET", "/v2/cache")
    assert answer.status == 200
    return {row["image_id"]: row for row in answer.json["cached_images"]}


async def queued(gate: Gateway) -> list[str]:
    found: list[str] = (await gate.ask("GET", "/v2/cache")).json["queued_images"]
    return found


async def cached(gate: Gateway, image_id: str) -> dict[str, Any]:
    """Its row, as soon as there is one."""

    async def look() -> dict[str, Any] | None:
        return (await listed(gate)).get(image_id)

    return await until(look, f"{image_id} to be cached")


async def download(gate: Gateway, image_id: str, **headers: str) -> bytes:
    answer = await gate.ask("GET", f"/v2/images/{image_id}/file", headers=headers)
    assert answer.status in (200, 206), answer.body
    return answer.body


async def filled(gate: Gateway, data: bytes = DATA, **fields: Any) -> str:
    """An image with a cached copy, made by a download."""
    image_id = await gate.active(data, **fields)
    assert await download(gate, image_id) == data
    await cached(gate, image_id)
    return image_id


def files(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "entries").iterdir())


def parts(folder: Path) -> list[Path]:
    return sorted((folder / "cache" / "filling").iterdir())


# filled and served


async def test_the_first_download_makes_the_copy_and_the_next_one_gets_it(
    gate: Gateway, store: FaultyStore
) -> None:
    image_id = await filled(gate)
    store.fail("read", StoreDown(store.id, "it is off"))
    assert await download(gate, image_id) == DATA
    answer = await gate.ask("HEAD", f"/v2/images/{image_id}/file")
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(DATA)))


@pytest.mark.parametrize(
    ("asked", "start", "stop"),
    [("bytes=0-0", 0, 1), ("bytes=1048570-2097155", MIB - 6, 2 * MIB + 4), ("bytes=-9", -9, None)],
)
async def test_ranges_come_from_the_copy(
    gate: Gateway, store: FaultyStore, asked: str, start: int, stop: int | None
) -> None:
    image_id = await filled(gate)
    store.fail("read", StoreDown(store.id, "it is off"))
    assert await download(gate, image_id, Range=asked) == DATA[start:stop]


@pytest.mark.parametrize("verify", [True, False])
@pytest.mark.parametrize("asked", ["", "bytes=5-6", "bytes=99999999-"])
async def test_answers_are_the_same_with_and_without_a_copy(
    store: FaultyStore, tmp_path: Path, verify: bool, asked: str
) -> None:
    own = {"cache": cache_of(tmp_path), "downloads": {"verify": verify}}
    async with running(store, tmp_path, **own) as gate:
        image_id = await gate.active(DATA)
        headers = {"X-Openstack-Request-ID": "req-1", **({"Range": asked} if asked else {})}
        path = f"/v2/images/{image_id}/file"
        before = await gate.ask("GET", path, headers=headers)
        await download(gate, image_id)
        hits = (await cached(gate, image_id))["hits"]
        after = await gate.ask("GET", path, headers=headers)
        assert (after.status, after.body) == (before.status, before.body)
        for answer in (before, after):
            answer.headers = {k: v for k, v in answer.headers.items() if k != "Date"}
        assert after.headers == before.headers
        assert (await listed(gate))[image_id]["hits"] - hits == (after.status != 416)


async def test_v1_is_served_as_well(gate: Gateway, store: FaultyStore) -> None:
    image_id = await filled(gate)
    store.fail("read", StoreDown(store.id, "it is off"))
    answer = await gate.ask("GET", f"/v1/images/{image_id}")
    assert answer.body == DATA


async def test_many_at_once_make_one_copy(gate: Gateway, tmp_path: Path) -> None:
    image_id = await gate.active(DATA)
    found = await asyncio.gather(*(download(gate, image_id) for _ in range(8)))
    assert found == [DATA] * 8
    await cached(gate, image_id)
    assert len(files(tmp_path)) == 1
    assert parts(tmp_path) == []


@pytest.mark.parametrize("what", ["range", "head", "empty", "unknown digest"])
async def test_what_makes_no_copy(gate: Gateway, tmp_path: Path, what: str) -> None:
    image_id = await gate.active(b"" if what == "empty" else DATA)
    path = f"/v2/images/{image_id}/file"
    if what == "range":
        await download(gate, image_id, Range="bytes=0-2097151")
    elif what == "head":
        await gate.ask("HEAD", path)
    elif what == "empty":
        assert await download(gate, image_id) == b""
    else:
        registered = await gate.create()
        url = {"url": f"{gate.url}{path}", "metadata": {}}
        answer = await gate.patch(registered, {"op": "add", "path": "/locations/-", "value": url})
        assert answer.status == 200, answer.body
        assert await download(gate, registered) == DATA
        await cached(gate, image_id)  # which served the other
        assert [entry.name.partition("+")[0] for entry in files(tmp_path)] == [image_id]
        return
    assert files(tmp_path) == parts(tmp_path) == []


async def test_a_download_that_ends_early_leaves_nothing(gate: Gateway, tmp_path: Path) -> None:
    image_id = await gate.active(pattern(7 * MIB))
    async with gate.session.get(f"{gate.url}/v2/images/{image_id}/file") as response:
        await response.content.readexactly(1000)
        response.close()

    async def left() -> bool:
        return not parts(tmp_path)

    await until(left, "the copy to be given up")
    assert files(tmp_path) == []
    assert await download(gate, image_id) == pattern(7 * MIB)
    await cached(gate, image_id)


async def test_wrong_bytes_of_the_store_make_no_copy(store: FaultyStore, tmp_path: Path) -> None:
    """Also where downloads are not checked: the copy is."""
    own = {"cache": cache_of(tmp_path), "downloads": {"verify": False}}
    async with running(store, tmp_path, **own) as gate:
        image_id = await gate.active(DATA)
        memory = store.inner
        assert isinstance(memory, MemoryStore)
        (key,) = [entry.key async for entry in memory.keys()]
        memory.publish(key, DATA[::-1])
        assert await download(gate, image_id) != DATA

        async def left() -> bool:
            return not parts(tmp_path)

        await until(left, "the copy to be judged")
        assert files(tmp_path) == []


# never served


async def test_a_deactivated_image_is_closed_whatever_lies_in_the_cache(gate: Gateway) -> None:
    image_id = await filled(gate, owner="p1", visibility="community")
    answer = await gate.ask("POST", f"/v2/images/{image_id}/actions/deactivate")
    assert answer.status == 204
    etag = (await gate.ask("GET", f"/v2/images/{image_id}/file")).headers["ETag"]
    for headers in ({}, {"Range": "bytes=0-1"}, {"If-None-Match": etag}):
        for method in ("GET", "HEAD"):
            path = f"/v2/images/{image_id}/file"
            answer = await gate.ask(method, path, headers={**of("p1"), **headers})
            assert answer.status == 403
            assert "ETag" not in answer.headers
    assert await download(gate, image_id) == DATA  # an administrator's


async def test_who_may_not_see_or_download_it_gets_nothing_of_the_copy(gate: Gateway) -> None:
    private = await filled(gate, owner="p1", visibility="private")
    public = await filled(gate, owner="p1", visibility="public")
    answer = await gate.ask("GET", f"/v2/images/{private}/file", headers=of("p2"))
    assert answer.status == 404
    reader = {"X-Auth-Token": "p2:reader"}
    assert (await gate.ask("GET", f"/v2/images/{public}/file", headers=reader)).status == 403


async def test_a_deleted_image_is_not_served_and_its_copy_goes(
    gate: Gateway, tmp_path: Path
) -> None:
    image_id, other = await filled(gate), await filled(gate)
    await gate.ask("DELETE", f"/v2/images/{image_id}")
    assert (await gate.ask("GET", f"/v2/images/{image_id}/file")).status == 404
    os.utime(tmp_path / "cache" / "lock", (1, 1))  # the last look was long ago
    assert await gate.app[keys.CACHE].upkeep() == 1
    assert set(await listed(gate)) == {other}


async def test_an_image_with_other_bytes_never_gets_the_old_ones(
    gate: Gateway, tmp_path: Path
) -> None:
    image_id = await filled(gate)
    old = files(tmp_path)
    assert (await gate.patch(image_id, {"op": "remove", "path": "/locations/0"})).status == 200
    other = DATA[::-1]
    assert (await gate.put(image_id, other)).status == 204
    assert await download(gate, image_id) == other

    async def changed() -> bool:
        return files(tmp_path) != old and len(files(tmp_path)) == 1

    await until(changed, "the copy of the new bytes, alone")
    assert await download(gate, image_id) == other


async def test_a_copy_of_old_bytes_goes_by_itself(gate: Gateway, tmp_path: Path) -> None:
    image_id = await filled(gate)
    await gate.patch(image_id, {"op": "remove", "path": "/locations/0"})
    os.utime(tmp_path / "cache" / "lock", (1, 1))
    assert await gate.app[keys.CACHE].upkeep() == 1
    assert files(tmp_path) == []


# damaged


@pytest.mark.parametrize("size", [100, len(DATA)])
async def test_a_copy_of_another_length_is_found_before_it_is_served(
    gate: Gateway, tmp_path: Path, size: int
) -> None:
    image_id = await filled(gate)
    (entry,) = files(tmp_path)
    os.truncate(entry, size)
    assert await download(gate, image_id) == DATA
    await cached(gate, image_id)
    assert entry.stat().st_size > len(DATA)


async def test_a_changed_byte_ends_the_download_and_the_copy(gate: Gateway, tmp_path: Path) -> None:
    image_id = await filled(gate)
    change(files(tmp_path)[0])
    with pytest.raises(aiohttp.ClientPayloadError):
        await download(gate, image_id)
    assert files(tmp_path) == []
    assert await download(gate, image_id) == DATA


async def test_a_changed_byte_of_a_small_image_is_never_seen(gate: Gateway, tmp_path: Path) -> None:
    image_id = await filled(gate, DATA[:1000])
    change(files(tmp_path)[0])
    assert await download(gate, image_id) == DATA[:1000]
    assert files(tmp_path) == []


# what makes room


async def test_what_was_used_least_lately_makes_room(gate: Gateway) -> None:
    first = await filled(gate)
    await filled(gate)  # two fit
    await download(gate, first)
    third = await filled(gate)
    assert set(await listed(gate)) == {first, third}


async def test_what_is_larger_than_the_cache_leaves_it_alone(gate: Gateway, tmp_path: Path) -> None:
    kept = await filled(gate)
    large = pattern(9 * MIB)
    image_id = await gate.active(large)
    assert await download(gate, image_id) == large
    assert parts(tmp_path) == []
    assert set(await listed(gate)) == {kept}


async def test_a_full_disk_ends_the_copy_and_not_the_download(
    gate: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image_id = await gate.active(DATA)
    calls = 0

    def pwrite(fd: int, data: Any, at: int) -> int:
        nonlocal calls
        calls += 1
        if calls > 1:
            raise OSError(28, "No space left on device")
        return write(fd, data, at)

    write = os.pwrite
    monkeypatch.setattr(os, "pwrite", pwrite)
    assert await download(gate, image_id) == DATA
    assert calls > 1
    assert files(tmp_path) == parts(tmp_path) == []
    monkeypatch.undo()
    assert await download(gate, image_id) == DATA
    await cached(gate, image_id)


# the calls


async def test_the_list(gate: Gateway) -> None:
    image_id = await filled(gate)
    for _ in range(3):
        await download(gate, image_id, Range="bytes=0-1")
    answer = await gate.ask("GET", "/v2/cache")
    (row,) = answer.json["cached_images"]
    assert set(row) == {"image_id", "size", "hits", "last_accessed", "last_modified"}
    assert (row["image_id"], row["size"], row["hits"]) == (image_id, len(DATA), 3)
    assert row["last_accessed"] > row["last_modified"] > 1e9
    assert answer.json["queued_images"] == []


async def test_uses_outlive_the_server(store: FaultyStore, tmp_path: Path) -> None:
    own = {"cache": cache_of(tmp_path)}
    async with running(store, tmp_path, **own) as gate:
        image_id = await filled(gate)
        await download(gate, image_id)
    async with running(store, tmp_path, **own) as gate:
        await download(gate, image_id)
        assert (await listed(gate))[image_id]["hits"] == 2


async def test_a_queued_image_is_copied_without_a_download(
    gate: Gateway, store: FaultyStore
) -> None:
    image_id = await gate.active(DATA)
    answer = await gate.ask("PUT", f"/v2/cache/{image_id}")
    assert (answer.status, answer.body) == (202, b"")
    assert (await cached(gate, image_id))["hits"] == 0

    async def done() -> bool:
        return not await queued(gate)

    await until(done, "the queue to be empty")
    store.fail("read", StoreDown(store.id, "it is off"))
    assert await download(gate, image_id) == DATA
    assert (await gate.ask("PUT", f"/v2/cache/{image_id}")).status == 202
    assert await queued(gate) == []


async def test_what_cannot_be_read_now_stays_queued(gate: Gateway, store: FaultyStore) -> None:
    image_id = await gate.active(DATA)
    store.fail("read", StoreDown(store.id, "it is off"))
    await gate.ask("PUT", f"/v2/cache/{image_id}")
    assert await queued(gate) == [image_id]
    assert (await gate.ask("DELETE", f"/v2/cache/{image_id}")).status == 204
    assert await queued(gate) == []


async def test_only_active_images_are_queued(gate: Gateway) -> None:
    answer = await gate.ask("PUT", f"/v2/cache/{await gate.create()}")
    assert answer.status == 400
    assert answer.message == "Only images with status active can be targeted for queueing"


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_an_unknown_image_is_404(gate: Gateway, method: str) -> None:
    for image_id in (str(uuid4()), "..%2f..%2fetc", "x+y"):
        answer = await gate.ask(method, f"/v2/cache/{image_id}")
        assert answer.status == 404


async def test_a_copy_is_deleted(gate: Gateway) -> None:
    image_id, other = await filled(gate), await filled(gate)
    for _ in range(2):  # also when it was not there
        answer = await gate.ask("DELETE", f"/v2/cache/{image_id}")
        assert (answer.status, answer.body) == (204, b"")
    assert set(await listed(gate)) == {other}


async def test_the_copy_of_a_deleted_image_is_deleted_once(gate: Gateway) -> None:
    image_id = await filled(gate)
    await gate.ask("DELETE", f"/v2/images/{image_id}")
    assert (await gate.ask("DELETE", f"/v2/cache/{image_id}")).status == 204
    answer = await gate.ask("DELETE", f"/v2/cache/{image_id}")
    assert (answer.status, answer.message) == (404, f"Image {image_id} not found.")


@pytest.mark.parametrize(
    ("target", "copies", "wanted"),
    [(None, 0, 0), ("", 0, 0), ("cache", 0, 1), ("QUEUE", 1, 0), ("Cache", 0, 1)],
)
async def test_all_are_deleted(
    gate: Gateway, store: FaultyStore, target: str | None, copies: int, wanted: int
) -> None:
    await filled(gate)
    store.fail("read", StoreDown(store.id, "it is off"))
    await gate.ask("PUT", f"/v2/cache/{await gate.active(DATA)}")
    headers = {} if target is None else {TARGET: target}
    answer = await gate.ask("DELETE", "/v2/cache", headers=headers)
    assert (answer.status, answer.body) == (204, b"")
    assert (len(await listed(gate)), len(await queued(gate))) == (copies, wanted)


async def test_another_target_is_refused(gate: Gateway) -> None:
    await filled(gate)
    answer = await gate.ask("DELETE", "/v2/cache", headers={TARGET: "all"})
    assert answer.status == 400
    assert answer.message == (
        "If provided 'x-image-cache-clear-target' must be 'cache', 'queue' or empty string."
    )
    assert len(await listed(gate)) == 1


async def test_other_methods(gate: Gateway) -> None:
    answer = await gate.ask("GET", f"/v2/cache/{uuid4()}")
    assert (answer.status, answer.headers["Allow"]) == (405, "DELETE, PUT")
    assert (await gate.ask("POST", "/v2/cache")).status == 405
    assert (await gate.ask("GET", "/v2/cache", data=b"x")).status == 400


CALLS = (("GET", ""), ("DELETE", ""), ("PUT", "/{}"), ("DELETE", "/{}"))


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_the_calls_are_for_administrators(gate: Gateway, method: str, path: str) -> None:
    visible = await gate.active(DATA, owner="p1", visibility="private")
    answer = await gate.ask(method, "/v2/cache" + path.format(visible), headers=of("p1"))
    assert answer.status == 403
    if path:
        for image_id in (visible, str(uuid4())):
            answer = await gate.ask(method, f"/v2/cache/{image_id}", headers=of("p2"))
            assert answer.status == 404


@pytest.mark.parametrize(("method", "path"), CALLS)
async def test_without_a_cache_the_calls_say_so(
    shared_gate: Gateway, method: str, path: str
) -> None:
    gate = shared_gate
    image_id = await gate.active(DATA, owner="p1")
    answer = await gate.ask(method, "/v2/cache" + path.format(image_id), headers=ADMIN)
    assert answer.status == 404
    assert answer.message == "Caching via API is not supported at this site."
    answer = await gate.ask(method, "/v2/cache" + path.format(image_id), headers=of("p1"))
    assert answer.status == 403


async def test_the_versions_say_whether_there_is_a_cache(
    gate: Gateway, store: FaultyStore, tmp_path: Path
) -> None:
    def ids(answer: Any) -> list[str]:
        return [entry["id"] for entry in answer.json["versions"]]

    assert "v2.14" in ids(await gate.ask("GET", "/versions"))
    folder = tmp_path / "other"
    folder.mkdir()
    async with running(store, folder) as other:
        assert "v2.14" not in ids(await other.ask("GET", "/versions"))


async def test_without_a_cache_no_folder_is_made(store: FaultyStore, tmp_path: Path) -> None:
    async with running(store, tmp_path, cache={"path": str(tmp_path / "cache")}) as gate:
        await download(gate, await gate.active(DATA))
    assert not (tmp_path / "cache").exists()


async def test_it_is_counted(gate: Gateway) -> None:
    async def counted(name: str) -> float:
        text = (await gate.ask("GET", "/metrics")).body.decode()
        found = [line.split()[-1] for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(found[0]) if found else 0.0

    names = [
        'tidegate_cache_reads_total{outcome="miss"}',
        'tidegate_cache_reads_total{outcome="hit"}',
        'tidegate_cache_read_bytes_total{outcome="hit"}',
        'tidegate_cache_fills_total{outcome="done"}',
    ]
    before = [await counted(name) for name in names]
    image_id = await filled(gate)
    await download(gate, image_id, Range="bytes=0-9")
    after = [await counted(name) for name in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 10, 1]


def change(path: Path) -> None:
    """One byte of a file."""
    with path.open("r+b") as file:
        file.seek(500)
        file.write(bytes([DATA[500] ^ 1]))
