"""A large import over a bad line."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.bucket import MIB, Bucket
from tests.kit.origins import serving
from tests.kit.server import Remote, until
from tests.kit.sources import pattern

pytestmark = pytest.mark.thorough

SIZE = 1024 * MIB
BREAKS = [130 * MIB + 1, 270 * MIB, 90 * MIB - 7, 333 * MIB]


@pytest.fixture(scope="module")
def config(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bucket.configure(tmp_path_factory.mktemp("gateway"))


async def test_1_gib_over_a_source_that_drops_the_connection_four_times(
    gate: Remote, bucket: Bucket
) -> None:
    body = pattern(SIZE)
    image_id = await gate.create()
    async with serving(body, breaks=list(BREAKS)) as origin:
        method = {"name": "web-download", "uri": origin.url}
        asked = await gate.ask("POST", f"/v2/images/{image_id}/import", json={"method": method})
        assert asked.status == 202
        seen = []

        async def ended() -> dict[str, Any] | None:
            answer = await gate.ask("GET", f"/v2/images/{image_id}/tasks")
            task: dict[str, Any] = answer.json["tasks"][0]
            seen.append(task["status"])
            return task if task["status"] in ("success", "failure") else None

        task = await until(ended, "the import to end", 240)
    assert task["status"] == "success", task["message"]
    assert set(seen) <= {"pending", "processing", "success"}
    starts = [0, *(sum(BREAKS[:count]) for count in range(1, len(BREAKS) + 1))]
    asked_for = [f"bytes={start}-" if start else None for start in starts]
    assert [ranged for _, ranged in origin.seen] == asked_for
    image = await gate.show(image_id)
    assert (image["status"], image["size"]) == ("active", SIZE)
    digest = hashlib.sha512(body).hexdigest()
    assert image["os_hash_value"] == digest
    (key,) = bucket.of(image_id)
    assert bucket.digest(key, "sha512") == digest
