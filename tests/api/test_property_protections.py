"""A gateway whose properties are protected."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.gateway import V21, Answer, running
from tests.kit.stores import FaultyStore
from tests.kit.tokens import Callers, everybody

FILE = """
[^x_owner$]
create = member
read = member
update = admin
delete = admin
[^x_hidden$]
create = member
read = admin
update = admin
delete = admin
[^x_drop$]
create = member
read = admin
update = member
delete = member
[^x_]
create = admin
read = @
update = admin
delete = !
[.]
create = @
read = @
update = @
delete = @
"""


@pytest.fixture
async def callers(store: FaultyStore, tmp_path: Path) -> AsyncIterator[Callers]:
    (tmp_path / "protections.conf").write_text(FILE, encoding="utf-8")
    tokens = tmp_path / "tokens.toml"
    headers = everybody(tokens)
    auth = {"mode": "tokens", "tokens_file": str(tokens)}
    policy = {"property_protections": str(tmp_path / "protections.conf")}
    async with running(store, tmp_path, auth=auth, policy=policy) as gate:
        yield Callers(gate, headers)


async def owned(callers: Callers, **properties: str) -> str:
    """An image of the owner's, with properties that an administrator gave it."""
    image_id = await callers.queued("owner")
    for name, value in properties.items():
        answer = await patch(callers, "admin", image_id, "add", name, value)
        assert answer.status == 200, answer.body
    return image_id


async def published(callers: Callers, **properties: str) -> str:
    """As ``owned``, and in everybody's lists."""
    image_id = await owned(callers, **properties)
    answer = await patch(callers, "admin", image_id, "replace", "visibility", "public")
    assert answer.status == 200, answer.body
    return image_id


async def patch(
    callers: Callers, caller: str, image_id: str, op: str, name: str, value: str | None = None
) -> Answer:
    step: dict[str, Any] = {"op": op, "path": f"/{name}"}
    if value is not None:
        step["value"] = value
    return await callers.ask(
        caller, "PATCH", f"/v2/images/{image_id}", json=[step], headers={"Content-Type": V21}
    )


async def shown(callers: Callers, caller: str, image_id: str) -> set[str]:
    """The protected properties that v2, its list, v1 and its list show; all the same."""
    image = (await callers.ask(caller, "GET", f"/v2/images/{image_id}")).json
    (listed,) = (await callers.ask(caller, "GET", "/v2/images")).json["images"]
    (detail,) = (await callers.ask(caller, "GET", "/v1/images/detail")).json["images"]
    head = (await callers.ask(caller, "HEAD", f"/v1/images/{image_id}")).headers
    found = {name for name in image if name.startswith("x_")}
    assert found == {name for name in listed if name.startswith("x_")}
    assert found == {name for name in detail["properties"] if name.startswith("x_")}
    prefix = "x-image-meta-property-"
    assert found == {
        name.lower().removeprefix(prefix) for name in head if name.lower().startswith(prefix)
    }
    return found


async def test_what_may_not_be_read_is_shown_nowhere(callers: Callers) -> None:
    image_id = await published(callers, x_owner="1", x_hidden="2", x_other="3")
    assert await shown(callers, "admin", image_id) == {"x_owner", "x_hidden", "x_other"}
    assert await shown(callers, "owner", image_id) == {"x_owner", "x_other"}
    assert await shown(callers, "reader", image_id) == {"x_other"}
    # nor in the answer to a change of something else, by either API
    answer = await patch(callers, "owner", image_id, "add", "name", "new")
    assert "x_hidden" not in answer.json
    answer = await callers.ask(
        "owner", "PUT", f"/v1/images/{image_id}",
        headers={"x-image-meta-name": "newer", "x-glance-registry-purge-props": "false"},
    )  # fmt: skip
    assert set(answer.json["image"]["properties"]) == {"x_owner", "x_other"}


async def test_nor_found_by(callers: Callers) -> None:
    await published(callers, x_hidden="2", x_other="3")
    for version in ("v1", "v2"):
        name = "property-x_hidden" if version == "v1" else "x_hidden"
        path = f"/{version}/images?{name}=2"
        assert (await callers.ask("owner", "GET", path)).status == 400
        assert len((await callers.ask("admin", "GET", path)).json["images"]) == 1
        path = path.replace("x_hidden=2", "x_other=3")
        assert len((await callers.ask("owner", "GET", path)).json["images"]) == 1


@pytest.mark.parametrize(
    ("op", "name", "value", "status"),
    [
        ("add", "x_owner", "new", 403),  # it is there: an update
        ("add", "x_owner", "1", 200),  # which changes nothing
        ("replace", "x_owner", "new", 403),
        ("remove", "x_owner", None, 403),
        ("add", "x_new", "new", 403),
        ("add", "free", "new", 200),
        ("replace", "kept", "new", 200),
        ("remove", "kept", None, 200),
        # as if it were not there, but not overwritten either
        ("add", "x_hidden", "new", 403),
        ("replace", "x_hidden", "new", 403),
        ("remove", "x_hidden", None, 403),
        ("add", "name", "new", 200),
    ],
)
async def test_changes(
    callers: Callers, op: str, name: str, value: str | None, status: int
) -> None:
    image_id = await owned(callers, x_owner="1", x_hidden="2", kept="3")
    before = (await callers.ask("admin", "GET", f"/v2/images/{image_id}")).json
    answer = await patch(callers, "owner", image_id, op, name, value)
    assert answer.status == status
    if status == 403:
        assert answer.message == f"Attribute '{name}' is reserved."
        assert (await callers.ask("admin", "GET", f"/v2/images/{image_id}")).json == before


async def test_what_may_be_written_and_not_read_is_as_if_it_were_not_there(
    callers: Callers,
) -> None:
    image_id = await owned(callers, x_drop="1")
    assert (await patch(callers, "owner", image_id, "remove", "x_drop")).status == 409
    assert await value(callers, image_id) == "1"
    assert (await patch(callers, "owner", image_id, "add", "x_drop", "2")).status == 200
    assert await value(callers, image_id) == "2"


async def value(callers: Callers, image_id: str) -> str:
    found: str = (await callers.ask("admin", "GET", f"/v2/images/{image_id}")).json["x_drop"]
    return found


async def test_a_refused_change_changes_nothing_at_all(callers: Callers) -> None:
    image_id = await owned(callers, x_owner="1")
    steps = [
        {"op": "add", "path": "/name", "value": "new"},
        {"op": "add", "path": "/x_new", "value": "x"},
    ]
    answer = await callers.ask(
        "owner", "PATCH", f"/v2/images/{image_id}", json=steps, headers={"Content-Type": V21}
    )
    assert answer.status == 403
    assert (await callers.ask("owner", "GET", f"/v2/images/{image_id}")).json["name"] is None


@pytest.mark.parametrize(("name", "status"), [("x_new", 403), ("x_owner", 201), ("free", 201)])
async def test_creation(callers: Callers, name: str, status: int) -> None:
    body = {"disk_format": "raw", "container_format": "bare", name: "1"}
    answer = await callers.ask("owner", "POST", "/v2/images", json=body)
    assert answer.status == status
    answer = await callers.ask(
        "owner", "POST", "/v1/images", headers={f"x-image-meta-property-{name}": "1"}
    )
    assert answer.status == status
    listed = (await callers.ask("admin", "GET", "/v2/images")).json["images"]
    assert len(listed) == (0 if status == 403 else 2)


async def test_v1s_purge_leaves_what_it_may_not_see(callers: Callers) -> None:
    image_id = await owned(callers, x_hidden="2", kept="3")
    answer = await callers.ask(
        "owner", "PUT", f"/v1/images/{image_id}", headers={"x-image-meta-name": "new"}
    )
    assert answer.status == 200
    image = (await callers.ask("admin", "GET", f"/v2/images/{image_id}")).json
    assert image["x_hidden"] == "2"
    assert "kept" not in image
