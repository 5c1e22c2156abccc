"""A gateway with a policy file."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.kit.gateway import running
from tests.kit.server import until
from tests.kit.stores import FaultyStore
from tests.kit.tokens import Callers, everybody, issue

RULES = """
"context_is_admin": "role:admin or role:cloud_admin"
"modify_image": "rule:context_is_admin or (project_id:%(owner)s and role:editor)"
"download_image": "rule:context_is_admin or (role:member and not 'yes':%(classified)s)"
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text(RULES, encoding="utf-8")
    return path


@pytest.fixture
async def callers(store: FaultyStore, file: Path) -> AsyncIterator[Callers]:
    tokens = file.with_name("tokens.toml")
    headers = everybody(tokens)
    headers["editor"] = issue(tokens, "editor", "p1", "member", "editor")
    headers["cloud"] = issue(tokens, "cloud", "cloud", "cloud_admin")
    auth = {"mode": "tokens", "tokens_file": str(tokens)}
    async with running(store, file.parent, auth=auth, policy={"file": str(file)}) as gate:
        yield Callers(gate, headers)


async def rename(callers: Callers, caller: str, image_id: str) -> int:
    answer = await callers.ask(
        caller, "PATCH", f"/v2/images/{image_id}",
        json=[{"op": "add", "path": "/name", "value": "new"}],
        headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
    )  # fmt: skip
    return answer.status


async def test_a_rule_is_the_files(callers: Callers) -> None:
    image_id = await callers.queued("owner")
    found = {name: await rename(callers, name, image_id) for name in callers.headers}
    assert found == {
        "admin": 200, "manager": 403, "owner": 403, "reader": 403, "stranger": 404,
        "editor": 200, "cloud": 200,
    }  # fmt: skip


async def test_another_role_may_be_the_administrators(callers: Callers) -> None:
    image_id = await callers.queued("owner")
    # of another project's private image, which the catalog shows to administrators alone
    assert (await callers.ask("cloud", "GET", f"/v2/images/{image_id}")).status == 200
    listed = (await callers.ask("cloud", "GET", "/v2/images")).json["images"]
    assert [image["id"] for image in listed] == [image_id]


async def test_a_rule_may_ask_for_a_property(callers: Callers) -> None:
    plain, secret = [await callers.active(b"bytes", "owner") for _ in range(2)]
    answer = await callers.ask(
        "editor", "PATCH", f"/v2/images/{secret}",
        json=[{"op": "add", "path": "/classified", "value": "yes"}],
        headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
    )  # fmt: skip
    assert answer.status == 200
    statuses = [
        (await callers.ask(caller, "GET", f"/v2/images/{image_id}/file")).status
        for caller in ("owner", "admin")
        for image_id in (plain, secret)
    ]
    assert statuses == [200, 403, 200, 200]


async def test_a_change_of_the_file_is_heeded(callers: Callers, file: Path) -> None:
    image_id = await callers.queued("owner")
    assert await rename(callers, "owner", image_id) == 403
    file.write_text("modify_image: role:member", encoding="utf-8")

    async def allowed() -> bool:
        return await rename(callers, "owner", image_id) == 200

    await until(allowed, "the new rule to hold", within=10)
    # but what a caller may not see stays hidden, whatever the rule says
    assert await rename(callers, "stranger", image_id) == 404
    assert (await callers.ask("cloud", "GET", f"/v2/images/{image_id}")).status == 404
