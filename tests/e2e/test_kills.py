"""Kill -9 at every named point, and at random: what another process then makes of it.

Two gateways share catalog and bucket: one dies at its point, the other one is asked what became
of the image.
"""

import io
import random
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest
from tests.e2e.audit import Audit
from tests.e2e.bucket import MIB, Bucket
from tests.e2e.crowd import Crowd, Record, Said, pieces
from tests.e2e.kills import Harness, Options
from tests.kit.command import wait_for
from tests.kit.gateway import DATA
from tests.kit.server import Remote, Server, gone, until
from tests.kit.sources import pattern

from tidegate.seaweedfs import SeaweedFS

BIG = pattern(12 * MIB)  # three parts
SMALL = pattern(100_000)  # one put
LEASE = 2.0
T = LEASE + 10
"""Seconds after a death in which everything must be at rest."""

UPLOADS = {
    "before_claim": "queued",
    "after_claim": "killed",
    "after_create": "killed",
    "after_create_recorded": "killed",
    "after_part": "killed",
    "after_verify": "killed",
    "before_complete": "killed",
    "after_complete": "active",
    "before_commit": "active",
    "after_commit": "active",
}
"""What becomes of an image whose upload's server dies at this point."""

MULTIPART_ALONE = {"after_create", "after_create_recorded", "after_part"}
OTHERS = ("abort_mid", "answer_half_sent", "del_committed", "del_store_done")


class Doomed:
    """Servers that die at their point, the next one started ahead."""

    def __init__(self, folder: Path, config: Path) -> None:
        self._folder = folder
        self._config = config
        self._points = [*UPLOADS, *OTHERS]
        self._servers: dict[str, Server] = {}

    def take(self, point: str) -> Server:
        at = self._points.index(point)
        for name in self._points[at : at + 2]:
            if name not in self._servers:
                folder = self._folder / name
                folder.mkdir()
                server = self._servers[name] = Server(folder, "--config", str(self._config))
                server.launch(TIDEGATE_KILL=f"{name}:1")
        server = self._servers[point]
        wait_for(server.answers, "the doomed gateway to answer", within=60)
        return server

    def close(self) -> None:
        for server in self._servers.values():
            if server.running:
                server.kill()


@pytest.fixture(scope="module")
def config(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gateway")
    return bucket.configure(folder, uploads={"lease": f"{LEASE}s"})


@pytest.fixture(scope="module")
def server(config: Path) -> Iterator[Server]:
    with Server(config.parent, "--config", str(config)) as found:
        yield found


@pytest.fixture(scope="module")
def doomed(
    server: Server, config: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Doomed]:
    found = Doomed(tmp_path_factory.mktemp("doomed"), config)
    yield found
    found.close()


async def dies(server: Server, remote: Remote, method: str, path: str, data: bytes = b"") -> None:
    """Ask for something that kills the worker; the server stays dead."""
    (worker,) = server.workers
    body = io.BytesIO(data) if data else None
    headers = {"Content-Type": DATA} if data else {}
    with pytest.raises(aiohttp.ClientError):
        await remote.ask(method, path, data=body, headers=headers)
    wait_for(lambda: gone(worker), "the worker to be dead")


@pytest.mark.parametrize("point", UPLOADS)
async def test_a_server_that_dies_in_an_upload(
    gate: Remote, bucket: Bucket, doomed: Doomed, session: aiohttp.ClientSession, point: str
) -> None:
    dying = doomed.take(point)
    other = Remote(dying.port, session)
    images: list[tuple[str, bytes]] = []
    for data in (BIG,) if point in MULTIPART_ALONE else (BIG, SMALL):
        image_id = await gate.create()
        wait_for(dying.answers, "its next worker")
        await dies(dying, other, "PUT", f"/v2/images/{image_id}/file", data)
        images.append((image_id, data))
    dying.kill()
    for image_id, data in images:
        await gate.wait_for_status(image_id, UPLOADS[point], within=T)
        uploads = (await gate.ask("GET", f"/v2/images/{image_id}/uploads")).json["uploads"]
        if UPLOADS[point] == "active":
            assert (await gate.show(image_id))["virtual_size"] == len(data)
            assert [bucket.get(key) for key in bucket.of(image_id)] == [data]
            assert (await gate.ask("GET", f"/v2/images/{image_id}/file")).body == data
            assert (await gate.put(image_id, data)).status == 409  # as the client will do
        elif UPLOADS[point] == "killed":
            assert uploads[-1]["failure"]["reason"] == "node_died"
            await clean(bucket, image_id)
        else:
            assert uploads == []
            assert bucket.of(image_id) == []
            assert (await gate.put(image_id, data)).status == 204


async def clean(bucket: Bucket, image_id: str) -> None:
    async def empty() -> bool:
        return not bucket.of(image_id)

    await until(empty, "the bucket to be clean", T)


async def test_a_server_that_dies_while_it_takes_a_broken_upload_back(
    gate: Remote, bucket: Bucket, doomed: Doomed, session: aiohttp.ClientSession
) -> None:
    dying = doomed.take("abort_mid")
    other = Remote(dying.port, session)
    image_id = await gate.create()
    (worker,) = dying.workers
    with pytest.raises(aiohttp.ClientError):
        await other.put(image_id, BIG, {"Content-MD5": "0" * 32})
    wait_for(lambda: gone(worker), "the worker to be dead")
    dying.kill()
    await gate.wait_for_status(image_id, "killed", within=T)
    await clean(bucket, image_id)


async def test_a_server_that_dies_in_a_download(
    gate: Remote, doomed: Doomed, session: aiohttp.ClientSession
) -> None:
    dying = doomed.take("answer_half_sent")
    image_id = await gate.active(BIG)
    path = f"/v2/images/{image_id}/file"
    await dies(dying, Remote(dying.port, session), "GET", path)
    dying.kill()
    assert await gate.status(image_id) == "active"
    assert (await gate.ask("GET", path)).body == BIG


@pytest.mark.parametrize("point", ["del_committed", "del_store_done"])
async def test_a_server_that_dies_in_a_delete(
    gate: Remote, bucket: Bucket, doomed: Doomed, session: aiohttp.ClientSession, point: str
) -> None:
    dying = doomed.take(point)
    image_id = await gate.active(BIG)
    await dies(dying, Remote(dying.port, session), "DELETE", f"/v2/images/{image_id}")
    dying.kill()
    assert (await gate.ask("GET", f"/v2/images/{image_id}")).status == 404
    await clean(bucket, image_id)


@pytest.mark.parametrize(
    ("point", "janitors_point"), [("after_claim", "reap_mid"), ("del_committed", "del_committed")]
)
async def test_a_janitor_that_dies_at_its_work_is_followed_by_another(
    seaweedfs: SeaweedFS, session: aiohttp.ClientSession, tmp_path: Path, point: str,
    janitors_point: str,
) -> None:  # fmt: skip
    with Bucket(seaweedfs) as bucket:
        path = bucket.configure(tmp_path, uploads={"lease": f"{LEASE}s"})
        with Server(tmp_path, "--config", str(path)) as server:
            gate = Remote(server.port, session)
            image_id = await gate.active(BIG) if point == "del_committed" else await gate.create()
            server.stop()
            server.start(TIDEGATE_KILL=f"{point}:1,{janitors_point}:1")
            if point == "del_committed":
                await dies(server, gate, "DELETE", f"/v2/images/{image_id}")
            else:
                await dies(server, gate, "PUT", f"/v2/images/{image_id}/file", BIG)
            # the worker that takes its place looks around first, and dies of what it finds
            wait_for(lambda: server.log.count("ended (-9)") >= 2, "a janitor to die", within=T)
            server.kill()
            server.start()
            if point == "after_claim":
                await gate.wait_for_status(image_id, "killed", within=T)
            await clean(bucket, image_id)


@pytest.mark.thorough
@pytest.mark.parametrize("point", ["scrub_mid", "scrub_removed", "del_store_done", "purge_mid"])
async def test_a_scrubber_or_purger_that_dies_is_followed_by_another(
    seaweedfs: SeaweedFS, session: aiohttp.ClientSession, tmp_path: Path, point: str
) -> None:
    with Bucket(seaweedfs) as bucket:
        deletion = {"delayed": True, "delay": "500ms", "purge_after": "500ms"}
        path = bucket.configure(tmp_path, uploads={"lease": f"{LEASE}s"}, deletion=deletion)
        with Server(tmp_path, "--config", str(path)) as server:
            server.kill()
            server.start(TIDEGATE_KILL=f"{point}:1")
            gate = Remote(server.port, session)
            image_id, kept = await gate.active(BIG), await gate.active(SMALL)
            assert (await gate.ask("DELETE", f"/v2/images/{image_id}")).status == 204
            assert len(bucket.of(image_id)) == 1
            wait_for(lambda: server.log.count("ended (-9)") >= 1, "a janitor to die", within=T)
            server.kill()
            server.start()
            await clean(bucket, image_id)
            wait_for(lambda: tables_that_know(tmp_path, image_id) == ["tombstones"], "the purge", T)
            assert (await gate.ask("POST", "/v2/images", json={"id": image_id})).status == 409
            assert (await gate.ask("GET", f"/v2/images/{kept}/file")).body == SMALL


def tables_that_know(folder: Path, image_id: str) -> list[str]:
    with closing(sqlite3.connect(folder / "tidegate.db")) as connection:
        found = []
        for table, column in (("images", "id"), ("uploads", "image_id"), ("tombstones", "id")):
            query = f"SELECT 1 FROM {table} WHERE {column} = ?"
            if connection.execute(query, (image_id,)).fetchone():
                found.append(table)
    return found


async def test_random_kills(seaweedfs: SeaweedFS, tmp_path: Path) -> None:
    report = await Harness(Options(count=4, seed=4), tmp_path, seaweedfs).run()
    assert report.violations == []
    assert report.kills == 4
    assert report.statuses["active"] > 0


# the harness itself


class Quiet:
    """A gateway at rest with one image of each kind, and what its clients were told."""

    def __init__(self, gate: Remote, bucket: Bucket, folder: Path) -> None:
        self.gate = gate
        self.bucket = bucket
        self.crowd = Crowd(gate.url, "", clients=0, lease=LEASE, rng=random.Random(1))
        self.foreign = f"{uuid4()}/foreign"
        bucket.put(self.foreign, b"")
        bucket.begin(self.foreign)
        self.audit = Audit(
            gate.url, self.crowd, bucket, folder / "tidegate.db", foreign=self.foreign
        )

    async def fill(self) -> None:
        record = self.record = self._record(await self.gate.create(), size=70_000, seed=5)
        data = b"".join(pieces(record.seed, record.size))
        assert (await self.gate.put(record.id, data)).status == 204
        self.queued = self._record(await self.gate.create(), size=1)
        self.queued.filled = Said.NOTHING

    def _record(self, image_id: str, *, size: int, seed: int = 0) -> Record:
        record = Record(image_id, size, "test", created=Said.DONE, filled=Said.DONE, seed=seed)
        self.crowd.records[image_id] = record
        return record

    async def findings(self) -> list[str]:
        return [
            *await self.audit.look(self.gate.session),
            *await self.audit.look_at_bytes(self.gate.session, all_again=True),
        ]


async def orphan(quiet: Quiet) -> None:
    quiet.bucket.put(f"{uuid4()}/{uuid4().hex}", b"orphan")


async def open_upload(quiet: Quiet) -> None:
    quiet.bucket.begin(f"{uuid4()}/{uuid4().hex}")


async def lost_object(quiet: Quiet) -> None:
    quiet.bucket.delete(quiet.bucket.of(quiet.record.id)[0])


async def other_bytes(quiet: Quiet) -> None:
    quiet.bucket.put(quiet.bucket.of(quiet.record.id)[0], bytes(quiet.record.size))


async def lost_image(quiet: Quiet) -> None:
    await quiet.gate.ask("DELETE", f"/v2/images/{quiet.record.id}")


async def undead(quiet: Quiet) -> None:
    quiet.record.deleted = Said.DONE


async def refused(quiet: Quiet) -> None:
    quiet.record.filled = Said.REFUSED


async def never_filled(quiet: Quiet) -> None:
    quiet.queued.filled = Said.DONE


async def broken(quiet: Quiet) -> None:
    await quiet.gate.put(quiet.queued.id, b"xx", {"x-openstack-image-size": "1"})
    quiet.queued.filled = Said.DONE


async def others_harmed(quiet: Quiet) -> None:
    quiet.bucket.delete(quiet.foreign)


@pytest.fixture(scope="module")
def alone(
    seaweedfs: SeaweedFS, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Bucket]]:
    """A gateway on a bucket in which nothing else is."""
    folder = tmp_path_factory.mktemp("alone")
    with Bucket(seaweedfs) as bucket:
        path = bucket.configure(folder)
        with Server(folder, "--config", str(path)) as server:
            yield server, bucket


@pytest.mark.parametrize(
    "tamper",
    [orphan, open_upload, lost_object, other_bytes, lost_image, undead, refused, never_filled,
     broken, others_harmed],
)  # fmt: skip
async def test_the_audit_finds_what_is_wrong(
    alone: tuple[Server, Bucket],
    session: aiohttp.ClientSession,
    tamper: Callable[[Quiet], Awaitable[None]],
) -> None:
    server, bucket = alone
    for key in bucket.objects():
        bucket.delete(key)
    for key, upload_id in bucket.unfinished():
        bucket.abort(key, upload_id)
    quiet = Quiet(Remote(server.port, session), bucket, server.folder)
    await quiet.fill()
    assert await quiet.findings() == []
    await tamper(quiet)
    assert await quiet.findings() != []
