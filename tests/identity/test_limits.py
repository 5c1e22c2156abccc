"""Keystone's unified limits, before an identity service that answers as told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.kit.keystone_fake import FakeKeystone, fake_keystone

from tidegate.domain.errors import IdentityDown
from tidegate.domain.quota import Allowance
from tidegate.identity.limits import MIB, KeystoneLimits

NOTHING = Allowance(images=0, bytes=0, staged=0, uploading=0)


def registered(name: str, most: int, **more: Any) -> dict[str, Any]:
    return {"resource_name": name, "service_id": "glance", "region_id": None,
            "default_limit": most, "id": name, **more}  # fmt: skip


def own(name: str, most: int, **more: Any) -> dict[str, Any]:
    return {"resource_name": name, "service_id": "glance", "region_id": None, "project_id": "p1",
            "domain_id": None, "resource_limit": most, "id": name, **more}  # fmt: skip


@pytest.fixture
async def fake() -> AsyncIterator[FakeKeystone]:
    async with fake_keystone() as found:
        found.shown = {
            "services": {"services": [{"id": "glance", "type": "image"}]},
            "registered_limits": {"registered_limits": []},
            "limits": {"limits": []},
        }
        yield found


@asynccontextmanager
async def limits(fake: FakeKeystone, **settings: Any) -> AsyncIterator[KeystoneLimits]:
    found = KeystoneLimits(fake.settings(**settings))
    await found.open()
    yield found
    await found.close()


async def allowed(fake: FakeKeystone, project: str = "p1", **settings: Any) -> Allowance:
    async with limits(fake, **settings) as found:
        return await found.of(project)


async def test_what_is_not_registered_is_a_limit_of_nothing(fake: FakeKeystone) -> None:
    assert await allowed(fake) == NOTHING


async def test_what_is_registered_holds_for_each_project_without_its_own(
    fake: FakeKeystone,
) -> None:
    fake.shown["registered_limits"]["registered_limits"] = [
        registered("image_count_total", 10), registered("image_size_total", 100),
        registered("image_stage_total", 50), registered("image_count_uploading", 2),
    ]  # fmt: skip
    fake.shown["limits"]["limits"] = [
        own("image_count_total", 3), own("image_size_total", -1),
        own("image_stage_total", 7, project_id="p2"),
    ]  # fmt: skip
    assert await allowed(fake) == Allowance(images=3, bytes=None, staged=50 * MIB, uploading=2)
    assert await allowed(fake, "p3") == Allowance(
        images=10, bytes=100 * MIB, staged=50 * MIB, uploading=2
    )


@pytest.mark.parametrize(
    ("region", "images"), [("north", 1), ("south", 5), ("", 1)], ids=["ours", "another's", "none"]
)
async def test_limits_of_our_region_come_before_those_of_every_region(
    fake: FakeKeystone, region: str, images: int
) -> None:
    fake.shown["registered_limits"]["registered_limits"] = [
        registered("image_count_total", 1, region_id="north"),
        registered("image_count_total", 5),
    ]
    assert (await allowed(fake, region=region)).images == images


async def test_limits_of_other_services_are_not_ours(fake: FakeKeystone) -> None:
    one = registered("image_count_total", 9, service_id="another")
    fake.shown["registered_limits"]["registered_limits"] = [one]
    assert await allowed(fake) == NOTHING


async def test_they_are_asked_for_as_an_account_of_the_whole_cloud(fake: FakeKeystone) -> None:
    await allowed(fake, "p 1")
    assert fake.logins[-1]["auth"]["scope"] == {"system": {"all": True}}
    assert fake.looks == ["/v3/services?type=image", "/v3/registered_limits",
                          "/v3/limits?project_id=p%201"]  # fmt: skip


async def test_they_are_believed_for_a_while(fake: FakeKeystone) -> None:
    async with limits(fake) as found:
        assert await found.of("p1") == await found.of("p1")
        assert len(fake.looks) == 3
        await found.of("p2")  # what is registered is the same for all
    assert fake.looks[3:] == ["/v3/limits?project_id=p2"]


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_while_keystone_cannot_be_asked_what_it_said_before_holds(
    fake: FakeKeystone, status: int
) -> None:
    fake.shown["registered_limits"]["registered_limits"] = [registered("image_count_total", 4)]
    async with limits(fake, cache="0s") as found:
        before = await found.of("p1")
        fake.status = status
        assert await found.of("p1") == before
        with pytest.raises(IdentityDown):
            await found.of("p2")
