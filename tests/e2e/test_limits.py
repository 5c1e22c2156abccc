"""Unified limits of a real Keystone hold, in Glance's units."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.gateway import DATA, Gateway, running
from tests.kit.keystone import Keystone
from tests.kit.stores import FaultyStore, objects

from tidegate.stores.memory import MemoryStore

MIB = 2**20


@pytest.fixture(scope="module")
def limited(keystone: Keystone) -> Keystone:
    """Each project may have 3 images and 4 MiB, p2 one image."""
    for name, most in {"image_count_total": 3, "image_size_total": 4, "image_stage_total": 2,
                       "image_count_uploading": 1}.items():  # fmt: skip
        keystone.limit(name, most)
    keystone.limit("image_count_total", 1, "p2")
    return keystone


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore(MemoryStore())


@pytest.fixture
async def gate(limited: Keystone, store: FaultyStore, tmp_path: Path) -> AsyncIterator[Gateway]:
    quotas = {"source": "keystone"}
    async with running(store, tmp_path, auth=limited.settings(), quotas=quotas) as found:
        yield found


class Member:
    def __init__(self, gate: Gateway, token: str) -> None:
        self.gate = gate
        self.headers = {"X-Auth-Token": token}

    async def create(self) -> tuple[int, str]:
        body = {"disk_format": "raw", "container_format": "bare"}
        answer = await self.gate.ask("POST", "/v2/images", json=body, headers=self.headers)
        return answer.status, answer.json.get("id", "")

    async def send(self, image_id: str, size: int, path: str = "file") -> int:
        headers = {**self.headers, "Content-Type": DATA}
        return (await self.gate.put(image_id, bytes(size), headers, path=path)).status

    async def usage(self) -> dict[str, Any]:
        answer = await self.gate.ask("GET", "/v2/info/usage", headers=self.headers)
        found: dict[str, Any] = answer.json["usage"]
        return found


async def test_a_project_has_its_own_limit_of_images(gate: Gateway, limited: Keystone) -> None:
    one, two = (Member(gate, limited.token(user)) for user in ("mem1", "mem2"))
    assert [(await one.create())[0] for _ in range(4)] == [201, 201, 201, 413]
    assert [(await two.create())[0] for _ in range(2)] == [201, 413]
    assert (await two.usage())["image_count_total"] == {"usage": 1, "limit": 1}


async def test_bytes_are_limited_in_all_and_staged(
    gate: Gateway, limited: Keystone, store: FaultyStore
) -> None:
    one = Member(gate, limited.token("mem1"))
    (_, first), (_, second) = await one.create(), await one.create()
    assert await one.send(first, 3 * MIB, "stage") == 413
    assert await one.send(first, 2 * MIB, "stage") == 204
    assert await one.usage() == {
        "image_size_total": {"usage": 2, "limit": 4},
        "image_stage_total": {"usage": 2, "limit": 2},
        "image_count_total": {"usage": 2, "limit": 3},
        "image_count_uploading": {"usage": 1, "limit": 1},
    }
    assert await one.send(second, 1) == 413  # the data of one image comes at a time
    assert (await gate.ask("DELETE", f"/v2/images/{first}", headers=one.headers)).status == 204
    assert await one.send(second, 5 * MIB) == 413
    assert await one.send(second, 4 * MIB) == 204
    assert len(await objects(store)) == 1
