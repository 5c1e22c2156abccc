"""Image API v1, asked the shortest way."""

from collections.abc import Mapping
from typing import Any

from tests.kit.gateway import DATA, Answer, Gateway
from tests.kit.identity import of

from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.status import Event, Status
from tidegate.domain.upload import Failure, Upload

FORMATS = {"disk_format": "raw", "container_format": "bare"}
OWNER = of("p1")


def meta(**fields: object) -> dict[str, str]:
    """Headers of metadata; of a property: ``property_NAME``."""
    return {
        f"x-image-meta-{name.replace('property_', 'property-', 1)}": str(value)
        for name, value in fields.items()
    }


async def post(
    gate: Gateway,
    data: bytes | None = None,
    *,
    who: Mapping[str, str] = OWNER,
    more: Mapping[str, str] | None = None,
    **fields: object,
) -> Answer:
    """Create an image, with formats unless they are given."""
    headers = {**who, **meta(**{**FORMATS, **fields}), **(more or {})}
    if data is not None:
        headers = {"Content-Type": DATA, **headers}
    return await gate.ask("POST", "/v1/images", data=data, headers=headers)


async def made(gate: Gateway, data: bytes | None = None, **options: Any) -> str:
    """An image; its id."""
    answer = await post(gate, data, **options)
    assert answer.status == 201, answer.body
    image_id: str = answer.json["image"]["id"]
    return image_id


async def put(
    gate: Gateway,
    image_id: str,
    data: bytes | None = None,
    *,
    who: Mapping[str, str] = OWNER,
    more: Mapping[str, str] | None = None,
    **fields: object,
) -> Answer:
    headers = {**who, **meta(**fields), **(more or {})}
    if data is not None:
        headers = {"Content-Type": DATA, **headers}
    return await gate.ask("PUT", f"/v1/images/{image_id}", data=data, headers=headers)


async def head(gate: Gateway, image_id: str, who: Mapping[str, str] = OWNER) -> Answer:
    return await gate.ask("HEAD", f"/v1/images/{image_id}", headers=who)


async def listed(
    gate: Gateway, who: Mapping[str, str] = OWNER, path: str = "/v1/images", **query: str
) -> list[str]:
    """The names in a list, in its order."""
    params = {name.replace("changes_since", "changes-since"): text for name, text in query.items()}
    answer = await gate.ask("GET", path, headers=who, params=params)
    assert answer.status == 200, answer.body
    return [image["name"] for image in answer.json["images"]]


async def in_status(
    gate: Gateway, catalog: SqlCatalog, status: Status, *, member: str = "p9", **fields: object
) -> str:
    """An image that came to this status by legal steps, shared with ``member``; its id."""
    image_id = await made(gate, **fields)
    await catalog.put_member(image_id, member)
    if status in (Status.ACTIVE, Status.DEACTIVATED, Status.PENDING_DELETE, Status.DELETED):
        assert (await put(gate, image_id, b"bytes")).status == 200
    match status:
        case Status.QUEUED | Status.ACTIVE:
            pass
        case Status.SAVING | Status.KILLED:
            attempt = Upload(id=image_id.replace("-", ""), image_id=image_id, store="x", key="x")
            await catalog.start_upload(attempt, lease=60)
            if status is Status.KILLED:
                why = Failure("client_gone", "reading", "The client went.", None)
                await catalog.fail_upload(attempt.id, why, Event.BREAK, leftovers=[])
        case Status.UPLOADING:
            await catalog.advance(image_id, Event.STAGE)
        case Status.IMPORTING:
            await catalog.advance(image_id, Event.IMPORT)
        case Status.DEACTIVATED:
            await catalog.advance(image_id, Event.DEACTIVATE)
        case Status.PENDING_DELETE:
            await catalog.advance(image_id, Event.DELETE_LATER)
        case Status.DELETED:
            answer = await gate.ask("DELETE", f"/v1/images/{image_id}", headers=OWNER)
            assert answer.status == 200
    return image_id
