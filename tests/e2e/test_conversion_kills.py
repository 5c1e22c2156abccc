"""Kill -9 while an import is converted: the next server does it again, and nothing is left."""

import os
from contextlib import suppress
from pathlib import Path

import aiohttp
import pytest
from tests.e2e.bucket import Bucket
from tests.kit import formats as f
from tests.kit.formats import MIB
from tests.kit.imports import DIRECT, ask, ended, staged
from tests.kit.server import Remote, Server, gone, until
from tests.kit.sources import pattern

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not f.HAS_QEMU, reason="qemu-img is not installed"),
]

DISK = pattern(12 * MIB)


@pytest.mark.parametrize(
    "point", ["conversion_fetched", "conversion_made", "after_part", "after_complete"]
)
async def test_a_server_that_dies_in_a_conversion(
    bucket: Bucket, tmp_path: Path, session: aiohttp.ClientSession, point: str
) -> None:
    scratch = tmp_path / "scratch"
    config = bucket.configure(
        tmp_path, **{"import": {"convert_to": "raw", "scratch": str(scratch)}}
    )
    (tmp_path / "disk.raw").write_bytes(DISK)
    f.qemu_img("convert", "-c", "-O", "qcow2", "disk.raw", "disk", folder=tmp_path)
    with Server(tmp_path, "--config", str(config)) as server:
        gate = Remote(server.port, session)
        image_id = await staged(gate, (tmp_path / "disk").read_bytes(), {"disk_format": "qcow2"})
        server.stop()
        server.start(TIDEGATE_KILL=f"{point}:1")
        (worker,) = server.workers
        with suppress(aiohttp.ClientError):
            assert (await ask(gate, image_id, DIRECT)).status == 202

        async def dead() -> bool:
            return gone(worker)

        await until(dead, "the worker to be dead", 60)
        server.kill()
        server.start()
        image, task = await ended(gate, image_id)
        assert task["status"] == "success", task["message"]
        assert (image["status"], image["disk_format"]) == ("active", "raw")

        async def clean() -> bool:
            return len(bucket.of(image_id)) == 1 and os.listdir(scratch) == ["lock"]

        await until(clean, "nothing else to be left", 40)
        assert [bucket.get(key) for key in bucket.of(image_id)] == [DISK]
