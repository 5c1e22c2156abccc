"""Staging and the Import API, as a client asks for them."""

import io
from collections.abc import Mapping
from typing import Any

from tests.kit.gateway import DATA, Answer, Gateway
from tests.kit.server import until
from tests.kit.stores import FaultyStore, objects, unfinished

DIRECT = {"name": "glance-direct"}
COPY = {"name": "copy-image"}


async def stage(gate: Gateway, image_id: str, data: Any, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await gate.ask(
        "PUT",
        f"/v2/images/{image_id}/stage",
        data=io.BytesIO(data) if isinstance(data, bytes) else data,
        headers={"Content-Type": DATA, **named},
    )


async def staged(
    gate: Gateway, data: bytes, fields: Mapping[str, Any] | None = None, **headers: str
) -> str:
    """An image with ``fields`` and staged data; its id."""
    image_id = await gate.create(**(fields or {}))
    answer = await stage(gate, image_id, data, **headers)
    assert (answer.status, answer.body) == (204, b"")
    return image_id


async def ask(gate: Gateway, image_id: str, method: dict[str, Any], **more: Any) -> Answer:
    return await gate.ask("POST", f"/v2/images/{image_id}/import", json={"method": method, **more})


async def imported(
    gate: Gateway, image_id: str, method: dict[str, Any], **more: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The image and its task, once that has ended."""
    answer = await ask(gate, image_id, method, **more)
    assert (answer.status, answer.body) == (202, b"")
    return await ended(gate, image_id)


async def ended(gate: Gateway, image_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    async def over() -> dict[str, Any] | None:
        task = await task_of(gate, image_id)
        return task if task["status"] in ("success", "failure") else None

    task = await until(over, "the import to end")
    assert task["type"] == "api_image_import"
    return await gate.show(image_id), task


async def task_of(gate: Gateway, image_id: str) -> dict[str, Any]:
    answer = await gate.ask("GET", f"/v2/images/{image_id}/tasks")
    task: dict[str, Any] = answer.json["tasks"][-1]
    return task


async def empty(*stores: FaultyStore) -> None:
    """Wait until nothing is left in them."""

    async def gone() -> bool:
        return all([await objects(one) == {} and await unfinished(one) == [] for one in stores])

    await until(gone, "the stores to be empty")
