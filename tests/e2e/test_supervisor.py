"""Workers that die, are told to stop, or are held still: the port stays, what runs is ended well,
and nobody who lost an image publishes it.

One gateway stays (``gate``), others on the same catalog and bucket come and go.
"""

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.e2e.bucket import MIB, Bucket
from tests.kit.command import wait_for
from tests.kit.gateway import Answer
from tests.kit.server import Remote, Server, gone, until
from tests.kit.sources import pattern

BIG = pattern(12 * MIB)  # three parts
LEASE = 2.0
T = LEASE + 10


@pytest.fixture(scope="module")
def config(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gateway")
    return bucket.configure(folder, uploads={"lease": f"{LEASE}s", "idle_timeout": "60s"})


@pytest.fixture(scope="module")
def server(config: Path) -> Iterator[Server]:
    with Server(config.parent, "--config", str(config)) as found:
        yield found


@contextmanager
def another(
    config: Path, folder: Path, *, workers: int = 1, drain: str = "60s"
) -> Iterator[Server]:
    server = Server(folder, "--config", str(config), "--workers", str(workers))
    server.start(TIDEGATE_SERVER__DRAIN_TIMEOUT=drain)
    try:
        yield server
    finally:
        for pid in server.workers if server.running else ():
            os.kill(pid, signal.SIGCONT)
        server.__exit__(None, None, None)


class SlowUpload:
    """An upload that stops half-way until it is told to go on."""

    def __init__(self, gate: Remote, other: Remote) -> None:
        self._gate = gate
        self._other = other
        self._go_on = asyncio.Event()
        self.image_id = ""

    async def begin(self) -> None:
        """Returns when the gateway has taken a part of it."""
        self.image_id = await self._gate.create()
        self._putting = asyncio.ensure_future(self._other.put(self.image_id, self._body()))

        async def moves() -> bool:
            answer = await self._gate.ask("GET", f"/v2/images/{self.image_id}/uploads")
            return any(upload["state"] == "writing" for upload in answer.json["uploads"])

        await until(moves, "the upload to begin at the store")

    async def _body(self) -> Any:
        yield BIG[: 6 * MIB]
        await self._go_on.wait()
        yield BIG[6 * MIB :]

    async def end(self) -> Answer:
        self._go_on.set()
        return await self._putting

    async def is_cut(self) -> None:
        """The connection breaks, or it is told that the data was not taken."""
        try:
            answer = await asyncio.wait_for(asyncio.shield(self._putting), 30)
        except aiohttp.ClientError:
            pass
        else:
            assert answer.status >= 400
        self._go_on.set()


async def clean(bucket: Bucket, image_id: str) -> None:
    async def empty() -> bool:
        return not bucket.of(image_id)

    await until(empty, "the bucket to be clean", T)


async def wait_for_end(server: Server, within: float) -> int:
    """Its exit code; the loop goes on meanwhile."""

    async def ended() -> bool:
        return not server.running

    await until(ended, "the server to end", within)
    return server.wait()


# death


async def test_a_killed_worker_is_replaced_and_others_serve_meanwhile(
    config: Path, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with another(config, tmp_path, workers=2) as killed:
        remote = Remote(killed.port, session)
        wait_for(lambda: len(killed.serving) == 2, "two workers")
        victim, other = killed.workers
        os.kill(victim, signal.SIGKILL)
        wait_for(
            lambda: victim not in killed.workers and len(killed.workers) == 2,
            "the worker to be replaced",
            within=2,
        )
        for _ in range(20):
            assert (await remote.ask("GET", "/v2/images")).status == 200
        wait_for(lambda: len(killed.serving) == 2, "the new one to serve")
        os.kill(other, signal.SIGKILL)
        assert (await remote.ask("GET", "/v2/images")).status == 200
        assert killed.log.count("ended (-9)") == 2


async def test_a_killed_supervisor_takes_its_workers_with_it(config: Path, tmp_path: Path) -> None:
    with another(config, tmp_path, workers=2) as server:
        wait_for(lambda: len(server.workers) == 2, "two workers")
        workers = server.workers
        server.kill_supervisor()
        wait_for(lambda: all(map(gone, workers)), "the workers to be gone")
        wait_for(lambda: refuses(server.port), "the port to be free")


def refuses(port: int) -> bool:
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED


def test_a_killed_dev_takes_its_store_with_it(tmp_path: Path) -> None:
    with Server(tmp_path, command="dev") as server:
        everybody = psutil.Process(server.pid).children(recursive=True)
        assert any("weed" in process.name() for process in everybody)
        server.kill_supervisor()
        wait_for(lambda: all(gone(process.pid) for process in everybody), "all to be gone")


# stopping


async def test_a_drain_lets_what_runs_end_and_takes_nothing_new(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with another(config, tmp_path) as stopping:
        other = Remote(stopping.port, session)
        upload = SlowUpload(gate, other)
        await upload.begin()
        late = await gate.create()
        stopping.terminate()
        await until_draining(stopping)
        await until_refused(other, late)
        assert await gate.status(late) == "queued"
        assert await gate.status(upload.image_id) == "saving"
        assert (await upload.end()).status == 204
        assert await wait_for_end(stopping, 30) == 0
    assert await gate.status(upload.image_id) == "active"
    assert [bucket.get(key) for key in bucket.of(upload.image_id)] == [BIG]


async def until_draining(server: Server) -> None:
    async def said() -> bool:
        return '"draining"' in server.log

    await until(said, "the drain to begin")


async def until_refused(other: Remote, image_id: str) -> None:
    """Until nothing can be sent to a server any more; nobody is kept waiting meanwhile."""

    async def refused() -> bool:
        async with asyncio.timeout(10):
            try:
                answer = await other.put(image_id, b"data")
            except aiohttp.ClientConnectorError:
                return True
            except aiohttp.ClientError:  # it was in line when the door closed
                return False
            assert answer.status == 429, answer.body
            return False

    await until(refused, "connections to be refused")


async def test_it_may_be_told_to_stop_while_a_worker_still_starts(
    gate: Remote, config: Path, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with another(config, tmp_path, workers=2) as stopping:
        other = Remote(stopping.port, session)
        upload = SlowUpload(gate, other)
        await upload.begin()
        stopping.terminate()

        async def ended() -> bool:
            return len(stopping.workers) < 2 or all(map(gone, stopping.workers[1:]))

        await until(ended, "the worker without work to end")
        await until_refused(other, await gate.create())
        assert (await upload.end()).status == 204
        assert await wait_for_end(stopping, 30) == 0


async def test_an_upload_that_outlasts_the_drain_is_killed_by_its_own_server(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with another(config, tmp_path, drain="1s") as stopping:
        upload = SlowUpload(gate, Remote(stopping.port, session))
        await upload.begin()
        stopping.terminate()
        assert await wait_for_end(stopping, 30) == 0
        await upload.is_cut()
    assert await gate.status(upload.image_id) == "killed"
    assert (await gate.failure(upload.image_id))["reason"] == "drained"
    assert bucket.of(upload.image_id) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_second_signal_ends_it_at_once(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, session: aiohttp.ClientSession,
    number: signal.Signals,
) -> None:  # fmt: skip
    with another(config, tmp_path) as stopping:
        upload = SlowUpload(gate, Remote(stopping.port, session))
        await upload.begin()
        workers = stopping.workers
        stopping.terminate()
        await until_draining(stopping)
        os.kill(stopping.pid, number)
        assert await wait_for_end(stopping, 20) != 0
        assert all(map(gone, workers))
        await upload.is_cut()
    # as if it had been killed: the janitor mends it
    await gate.wait_for_status(upload.image_id, "killed", within=T)
    await clean(bucket, upload.image_id)


# held still


async def test_a_worker_held_still_for_longer_than_its_lease_cannot_activate(
    gate: Remote, bucket: Bucket, config: Path, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with another(config, tmp_path) as paused:
        upload = SlowUpload(gate, Remote(paused.port, session))
        await upload.begin()
        (worker,) = paused.workers
        os.kill(worker, signal.SIGSTOP)
        # somebody else finds the lease over
        await gate.wait_for_status(upload.image_id, "killed", within=T)
        assert (await gate.failure(upload.image_id))["reason"] == "node_died"
        os.kill(worker, signal.SIGCONT)
        answer = await upload.end()
        assert answer.status == 409, answer.body
        assert "taken over" in answer.message
        assert await gate.status(upload.image_id) == "killed"
        await clean(bucket, upload.image_id)
        assert paused.workers == [worker]


# counting


async def metrics(remote: Remote) -> dict[str, float]:
    """Samples by name and labels."""
    text = (await remote.ask("GET", "/metrics")).body.decode()
    return {
        f"{sample.name}{sorted(sample.labels.items())}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_metrics_add_up_over_all_workers_also_those_that_died(
    config: Path, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    done = "tidegate_uploads_total[('outcome', 'done')]"
    broken = "tidegate_uploads_total[('outcome', 'size_mismatch')]"
    with another(config, tmp_path, workers=2) as server:
        remote = Remote(server.port, session)
        wait_for(lambda: len(server.serving) == 2, "two workers")
        count, size = 24, 10_000
        ids = [await remote.create() for _ in range(count)]
        await asyncio.gather(*(remote.put(image_id, bytes(size)) for image_id in ids))
        odd = await remote.create()
        await remote.put(odd, bytes(size), {"x-openstack-image-size": "5"})

        async def check() -> None:
            for _ in range(8):  # whichever worker is asked
                found = await metrics(remote)
                assert found[done] == count
                assert found[broken] == 1
                assert found["tidegate_uploads_started_total[]"] == count + 1
                assert found["tidegate_uploads_running[]"] == 0
                assert found["tidegate_buffer_bytes[]"] == 0
                assert found["tidegate_received_bytes_total[]"] >= count * size

        await check()
        victim = server.workers[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: victim not in server.workers and len(server.workers) == 2, "another one")
        await check()


async def test_an_upload_in_flight_is_counted_until_its_worker_dies(
    gate: Remote, config: Path, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    with another(config, tmp_path) as server:
        remote = Remote(server.port, session)
        upload = SlowUpload(gate, remote)
        await upload.begin()
        found = await metrics(remote)
        assert found["tidegate_uploads_running[]"] == 1
        assert found["tidegate_buffer_bytes[]"] > 0
        (worker,) = server.workers
        os.kill(worker, signal.SIGKILL)
        await upload.is_cut()
        wait_for(lambda: worker not in server.workers and server.answers(), "another worker")
        found = await metrics(remote)
        assert found["tidegate_uploads_running[]"] == 0
        assert found["tidegate_buffer_bytes[]"] == 0
        assert found["tidegate_uploads_started_total[]"] == 1


def test_nothing_is_left_in_the_folder_for_scratch(config: Path, tmp_path: Path) -> None:
    with another(config, tmp_path) as server:
        assert server.stop() == 0
    assert list((tmp_path / "tmp").iterdir()) == []
