"""The read cache of a node: two workers on a real store, deaths, and the real client."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from tests.e2e.bucket import MIB, Bucket
from tests.e2e.test_deactivation import CUT_WITHIN, downloading, held_still
from tests.kit.gateway import Answer
from tests.kit.glance import Glance
from tests.kit.server import Remote, Server, client, until
from tests.kit.sources import pattern
from tests.kit.tokens import Callers, everybody

DATA = pattern(48 * MIB)
SMALL = pattern(3 * MIB + 1)


@pytest.fixture(scope="module", params=[True, False], ids=["blocks", "sendfile"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("gateway")
    (found / "verify").write_text(str(request.param))
    return found


@pytest.fixture(scope="module")
def headers(folder: Path) -> dict[str, dict[str, str]]:
    return everybody(folder / "tokens.toml")


@pytest.fixture(scope="module")
def server(folder: Path, bucket: Bucket, headers: dict[str, dict[str, str]]) -> Iterator[Server]:
    path = bucket.configure(
        folder,
        server={"workers": 2},
        # a worker that is held still must seldom be just writing to the catalog
        uploads={"lease": "60s"},
        auth={"mode": "tokens", "tokens_file": str(folder / "tokens.toml")},
        downloads={"verify": (folder / "verify").read_text() == "True"},
        cache={"enabled": True, "path": str(folder / "cache"), "max_size": "200MiB"},
    )
    with Server(folder, "--config", str(path)) as found:
        yield found


@pytest.fixture
async def callers(server: Server, headers: dict[str, dict[str, str]]) -> AsyncIterator[Callers]:
    async with client() as session:
        yield Callers(Remote(server.port, session), headers)


async def cached(callers: Callers, image_id: str) -> int:
    """How often it was used, as soon as it is cached."""

    async def look() -> list[int]:
        rows = (await callers.ask("admin", "GET", "/v2/cache")).json["cached_images"]
        return [row["hits"] for row in rows if row["image_id"] == image_id]

    (hits,) = await until(look, f"{image_id} to be cached")
    return hits


async def download(callers: Callers, image_id: str, **headers: str) -> Answer:
    return await callers.ask("owner", "GET", f"/v2/images/{image_id}/file", headers=headers)


async def filled(callers: Callers, bucket: Bucket, data: bytes) -> str:
    """An image that is cached, and whose object is not in the bucket any more."""
    image_id = await callers.active(data)
    assert (await download(callers, image_id)).body == data
    await cached(callers, image_id)
    (key,) = bucket.of(image_id)
    bucket.delete(key)
    return image_id


def parts(folder: Path) -> list[Path]:
    return list((folder / "cache" / "filling").iterdir())


@pytest.mark.parametrize("order", ["deactivate", "delete"])
async def test_a_cached_download_is_cut_as_any_other(
    server: Server, callers: Callers, bucket: Bucket, order: str
) -> None:
    image_id = await filled(callers, bucket, DATA)
    async with downloading(server, image_id, callers.headers["owner"]) as running:
        async with held_still(running.worker):
            if order == "delete":
                answer = await callers.ask("owner", "DELETE", f"/v2/images/{image_id}")
            else:
                answer = await callers.act("owner", order, image_id)
            assert answer.status == 204, answer.body

        async def cut() -> bool:
            return running.worker is None

        await until(cut, "the download to be cut", CUT_WITHIN)
        assert not await running.rest()
        assert len(running.found) < len(DATA)
        assert DATA.startswith(running.found)
    for asked in ({}, {"Range": "bytes=0-0"}):
        answer = await download(callers, image_id, **asked)
        assert answer.status == (404 if order == "delete" else 403)
    answer = await callers.ask("admin", "GET", f"/v2/images/{image_id}/file")
    assert answer.status == (404 if order == "delete" else 200)


async def test_all_workers_serve_what_one_has_copied(
    callers: Callers, server: Server, bucket: Bucket
) -> None:
    image_id = await filled(callers, bucket, SMALL)
    found = await asyncio.gather(*(download(callers, image_id) for _ in range(20)))
    assert all(answer.body == SMALL for answer in found)

    async def counted() -> bool:
        return await cached(callers, image_id) == 20

    await until(counted, "both workers to have written down their uses")


async def test_many_downloads_of_two_workers_make_one_copy(callers: Callers, folder: Path) -> None:
    image_id = await callers.active(DATA)
    found = await asyncio.gather(*(download(callers, image_id) for _ in range(6)))
    assert all(answer.body == DATA for answer in found)
    await cached(callers, image_id)
    assert parts(folder) == []
    assert len(list((folder / "cache" / "entries").glob(f"{image_id}+*"))) == 1


@pytest.mark.thorough
@pytest.mark.parametrize("point", ["cache_half_filled", "cache_whole", "cache_published"])
async def test_a_worker_that_dies_while_it_copies(
    server: Server, callers: Callers, folder: Path, point: str
) -> None:
    image_id = await callers.active(SMALL)
    server.kill()
    server.start(TIDEGATE_KILL=point)
    try:
        answer = await download(callers, image_id)
    except aiohttp.ClientError:  # it died before all was sent
        assert point == "cache_half_filled"
    else:
        assert answer.body == SMALL

    async def another() -> bool:
        return "worker died" in server.log or len(server.serving) == 2

    await until(another, "another worker")
    server.kill()
    server.start()
    assert parts(folder) == []
    assert (await download(callers, image_id)).body == SMALL
    await cached(callers, image_id)
    assert (await download(callers, image_id)).body == SMALL


def states(glance: Glance) -> dict[str, str]:
    """``cached`` or ``queued``, by image."""
    return {row[0]: row[1] for row in glance.rows("cache-list")}


async def test_the_real_client(
    server: Server, callers: Callers, headers: dict[str, dict[str, str]], bucket: Bucket
) -> None:
    glance = Glance(server, version=None, token=headers["admin"]["X-Auth-Token"])
    image_id, gone = await callers.active(SMALL), await callers.active(SMALL)
    bucket.delete(bucket.of(gone)[0])
    glance.run("cache-clear")
    assert states(glance) == {}
    glance.run("cache-queue", image_id)
    await cached(callers, image_id)
    glance.run("cache-queue", gone)  # its object is not there: it waits
    assert states(glance) == {image_id: "cached", gone: "queued"}
    glance.run("cache-clear", "--target", "queue")
    assert states(glance) == {image_id: "cached"}
    glance.run("cache-delete", image_id)
    assert states(glance) == {}
    assert (await download(callers, image_id)).body == SMALL
    await cached(callers, image_id)
    glance.run("cache-clear", "--target", "cache")
    assert states(glance) == {}
