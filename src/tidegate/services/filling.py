"""An image that a task fills, or makes and fills: begun again by whoever takes the task up.

An attempt is named by its task and by how often that was taken up, so that whoever takes it up next
finds what became of the one before: published (the task is done), failed (so is the task), never
begun (it begins), or still held by a dead server's lease (the janitor settles it first).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, NamedTuple
from uuid import uuid4

from tidegate.catalog.base import EVERYTHING, Catalog, ImageChange
from tidegate.domain.errors import (
    AttemptLost,
    Busy,
    CatalogDown,
    Conflict,
    Gone,
    NotCopied,
    NotFound,
    TidegateError,
)
from tidegate.domain.expected import Expected
from tidegate.domain.image import Image, Visibility
from tidegate.domain.policy import Policy
from tidegate.domain.status import Status
from tidegate.domain.task import Task
from tidegate.domain.upload import NOT_COPIED, OPEN, Upload, UploadState
from tidegate.killpoints import kill_point
from tidegate.services.images import BASE_FIELDS, Images, NewImage
from tidegate.services.removals import Removals
from tidegate.services.tasks import Holding
from tidegate.services.uploads import Uploads
from tidegate.transfer.copying import Original
from tidegate.transfer.fetching import Fetching
from tidegate.transfer.scratch import SparseFile

LOOK_EVERY = 0.5
"""Seconds between two looks at an attempt that a former holder of the task left open."""

MAX_ATTEMPTS = 5
"""Attempts of one task, each broken by a server that died or stopped, until it is given up."""

_AGAIN = frozenset({"node_died", "drained", NOT_COPIED})
"""Failures that say nothing of the bytes: where the image is queued again, so is the copying."""


class Incoming(NamedTuple):
    """A source of bytes, what they must be like, and to which disk_format they were converted
    (None: to none)."""

    source: Fetching | SparseFile | Original
    expected: Expected
    becomes: str | None = None


Data = Callable[[Image], AbstractAsyncContextManager[Incoming]]
"""Opens the source for an image. TidegateError: why it cannot."""


class Filling:
    def __init__(
        self,
        catalog: Catalog,
        policy: Policy,
        images: Images,
        uploads: Uploads,
        removals: Removals,
    ) -> None:
        self._catalog = catalog
        self._policy = policy
        self._images = images
        self._uploads = uploads
        self._removals = removals

    async def make(
        self,
        holding: Holding,
        properties: Callable[[], Awaitable[Mapping[str, Any]]],
        data: Data,
    ) -> Mapping[str, object]:
        """The result of a task that makes an image of ``properties``, by their names in the API,
        and fills it; the image is removed again if it cannot be filled."""
        image_id = holding.task.image_id
        if image_id is None:
            image_id = str(uuid4())
            await holding.remember_image(image_id)
        kill_point("task_image_named")
        try:
            if await self._image(image_id) is None:
                new = new_image(image_id, await properties())
                with suppress(Conflict):  # made by a former holder, and deleted
                    await self._images.create(self._policy.judged(holding.task.caller), new)
            kill_point("task_image_made")
            await self.fill(holding, image_id, data, store_id=None)
        except (Busy, CatalogDown):
            raise
        except TidegateError:
            await self._remove(image_id)
            raise
        return {"image_id": image_id}

    async def fill(
        self,
        holding: Holding,
        image_id: str,
        data: Data,
        *,
        store_id: str | None,
    ) -> None:
        """Bring the bytes into the image, unless a former holder did. TidegateError: why not."""
        task = holding.task
        attempts = await self.ended_attempts(task, image_id)
        if any(one.state is UploadState.DONE for one in attempts):
            return
        image = await self._image(image_id)
        if attempts and not _goes_on(attempts, image):
            failure = attempts[-1].failure
            assert failure is not None
            raise Conflict(failure.message)
        if image is None:
            raise Gone("The image was deleted; nothing is copied into it.")
        async with data(image) as (source, expected, becomes):
            holding.progress = lambda: f"Copied {source.received // 2**20} MiB"
            try:
                await self._uploads.upload(
                    self._policy.judged(task.caller),
                    image_id,
                    source,
                    expected,
                    store_id=store_id,
                    request_id=task.request_id,
                    attempt=task.attempt,
                    repeatable=True,
                    becomes=becomes,
                )
            except (AttemptLost, NotCopied) as error:  # what became of it decides
                raise Busy(error.message, retry_after=1) from error

    async def ended_attempts(self, task: Task, image_id: str) -> list[Upload]:
        return await ended(self._catalog, image_id, lambda upload: upload.id in task.attempts)

    async def _image(self, image_id: str) -> Image | None:
        with suppress(NotFound):
            return await self._catalog.get_image(image_id, EVERYTHING)
        return None

    async def _remove(self, image_id: str) -> None:
        image = await self._image(image_id)
        # who filled it meanwhile by other means keeps it
        if image is None or image.status in (Status.ACTIVE, Status.DEACTIVATED):
            return
        kill_point("task_removing")
        with suppress(NotFound):
            if image.protected:
                await self._catalog.change_image(image_id, ImageChange(fields={"protected": False}))
            await self._removals.carry_out(await self._catalog.delete_image(image_id))


async def ended(catalog: Catalog, image_id: str, mine: Callable[[Upload], bool]) -> list[Upload]:
    """A task's attempts, oldest first, once none of them is open."""
    while True:
        found = [upload for upload in await catalog.uploads_of(image_id) if mine(upload)]
        if not any(upload.state in OPEN for upload in found):
            return found
        await asyncio.sleep(LOOK_EVERY)


def _goes_on(attempts: list[Upload], image: Image | None) -> bool:
    """Whether there is an attempt to follow those that failed."""
    queued = image is not None and image.status is Status.QUEUED
    return queued and may_be_repeated(attempts[-1]) and len(attempts) < MAX_ATTEMPTS


def may_be_repeated(upload: Upload) -> bool:
    """Whether it broke for a reason that says nothing of the bytes."""
    return upload.failure is not None and upload.failure.reason in _AGAIN


def new_image(image_id: str, properties: Mapping[str, Any]) -> NewImage:
    """Of properties that were checked when the task was made."""
    own = {"owner", "visibility", "tags"}
    fields = {
        BASE_FIELDS[name]: value
        for name, value in properties.items()
        if name in BASE_FIELDS and name not in own
    }
    return NewImage(
        id=image_id,
        owner=properties.get("owner") or None,
        owner_given="owner" in properties,
        visibility=Visibility(properties.get("visibility", Visibility.SHARED)),
        fields={"disk_format": "qcow2", "container_format": "bare"} | fields,
        properties={
            name: value
            for name, value in properties.items()
            if name not in BASE_FIELDS and name not in own
        },
        tags=tuple(dict.fromkeys(properties.get("tags", ()))),
    )
