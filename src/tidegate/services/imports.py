"""Bytes in from a URL, as tasks: API v1's copy-from, and the import task of ``/v2/tasks``.

The bytes go the way of every upload. An attempt is named by its task and by how often that was
taken up, so that whoever takes it up next finds what became of the one before: published (the task
is done), failed (so is the task), never begun (it begins), or still held by a dead server's lease
(the janitor settles it first).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from uuid import uuid4

from tidegate.catalog.base import Catalog, ImageChange, Viewer
from tidegate.domain.errors import (
    AttemptLost,
    BadTransition,
    Busy,
    CatalogDown,
    Conflict,
    Gone,
    Invalid,
    LocationRefused,
    NotFound,
    ObjectMissing,
    StoreError,
    TidegateError,
)
from tidegate.domain.image import Image, Visibility
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import Event, Status
from tidegate.domain.task import Task, TaskType
from tidegate.domain.upload import OPEN, Upload, UploadState
from tidegate.killpoints import kill_point
from tidegate.services.attempts import Expected
from tidegate.services.converting import RAW, Converting
from tidegate.services.images import BASE_FIELDS, Images, NewImage
from tidegate.services.removals import Removals
from tidegate.services.tasks import Holding, Tasks, Work, new_task
from tidegate.services.uploads import Uploads
from tidegate.stores.http import HttpStore
from tidegate.transfer.fetching import UNREACHABLE, Fetching

LOOK_EVERY = 0.5
"""Seconds between two looks at an attempt that a former holder of the task left open."""

MAX_ATTEMPTS = 5
"""Attempts of one task, each broken by a server that died or stopped, until it is given up."""

_AGAIN = frozenset({"node_died", "drained"})
"""Failures that say nothing of the bytes: where the image is queued again, so is the copying."""

_EVERYBODY = Viewer(admin=True)
_LOCAL = ("file:", "filesystem:")


class Imports:
    def __init__(
        self,
        catalog: Catalog,
        policy: Policy,
        images: Images,
        uploads: Uploads,
        removals: Removals,
        tasks: Tasks,
        *,
        remote: HttpStore,
        max_size: int,
        patience: float,
        converting: Converting | None = None,
    ) -> None:
        self._catalog = catalog
        self._policy = policy
        self._images = images
        self._uploads = uploads
        self._removals = removals
        self._tasks = tasks
        self._remote = remote
        self._max_size = max_size
        self._patience = patience
        self._converting = converting

    @property
    def works(self) -> Mapping[TaskType, Work]:
        return {TaskType.COPY_FROM: self._copy, TaskType.IMPORT: self._import}

    # for callers

    async def check_copy(
        self,
        caller: Caller,
        url: str,
        *,
        declared: int | None,
        store_id: str | None,
        image: Image | None = None,
    ) -> None:
        """What can be said before an image is made or changed to be filled from ``url``; the
        source is asked only if no size was ``declared``. Forbidden, Conflict, Invalid,
        LocationRefused, Busy; NotFound: the source says that there is nothing."""
        for rule in ("copy_from", "upload_image"):
            self._policy.require(caller, rule, image)
        if image is not None:
            self._uploads.refuse_refill(caller, image)
        if not url:
            raise Invalid("External source should not be empty")
        self._remote.check(url)
        self._uploads.admit(store_id=store_id)
        size = declared
        if size is None:
            try:
                size = (await self._remote.look(url)).size
            except ObjectMissing as error:
                raise NotFound(UNREACHABLE) from error
            except StoreError as error:
                raise Invalid(UNREACHABLE) from error
        if size is not None and size > self._max_size:
            raise Invalid(f"Denying attempt to upload image larger than {self._max_size} bytes.")

    async def copy(
        self,
        caller: Caller,
        image_id: str,
        url: str,
        write: Callable[[Task], Awaitable[Image]],
        *,
        store_id: str | None,
        request_id: str,
    ) -> Image:
        """Fill a queued image from ``url``, which was checked before, as a task; ``write`` makes
        or changes the image and writes down the task, in one."""
        given: dict[str, object] = {"copy_from": url}
        if store_id is not None:
            given["store"] = store_id
        task = new_task(caller, TaskType.COPY_FROM, given, image_id=image_id, request_id=request_id)
        kill_point("before_task")
        image = await write(task)
        self._tasks.added(task)
        return image

    async def add_import(
        self, caller: Caller, given: Mapping[str, Any], *, request_id: str
    ) -> Task:
        """A task that makes an image of ``image_properties`` and fills it from ``import_from``.
        Forbidden, Invalid; what else is wrong with it, the task itself says."""
        self._policy.require(caller, "add_task")
        source = given.get("import_from")
        if not source or not isinstance(source, str):
            raise Invalid(f"Invalid location: {source}")
        if source.strip().lower().startswith(_LOCAL):
            raise Invalid(
                "File based imports are not allowed. Please use a non-local source of image data."
            )
        scheme = source.partition(":")[0].lower()
        if scheme not in ("http", "https"):
            raise Invalid(
                "The given uri is not valid. Please specify a valid uri from the following list "
                "of supported uri ['http', 'https']"
            )
        try:
            self._remote.check(source)
        except LocationRefused as error:
            raise Invalid(
                f"URI for legacy import task does not pass filtering: {error.message}"
            ) from error
        return await self._tasks.add(caller, TaskType.IMPORT, given, request_id=request_id)

    # the works

    async def _copy(self, holding: Holding) -> Mapping[str, object]:
        """queued → saving → active or killed; killed at once when it cannot begin."""
        task = holding.task
        assert task.image_id is not None
        store = task.input.get("store")
        try:
            await self._fill(
                holding,
                task.image_id,
                str(task.input["copy_from"]),
                store_id=None if store is None else str(store),
            )
        except (Busy, CatalogDown):
            raise
        except TidegateError:
            await self._refuse(task, task.image_id)
            raise
        return {"image_id": task.image_id}

    async def _import(self, holding: Holding) -> Mapping[str, object]:
        """A new image, which is removed again if it cannot be filled."""
        given = holding.task.input
        for name in ("import_from", "import_from_format", "image_properties"):
            if not given.get(name) and given.get(name) != {}:
                raise Invalid(f"Input does not contain '{name}' field")
        properties = given["image_properties"]
        assert isinstance(properties, dict)
        image_id = holding.task.image_id
        if image_id is None:
            image_id = str(uuid4())
            await holding.remember_image(image_id)
        kill_point("task_image_named")
        try:
            with suppress(Conflict):  # made by a former holder
                caller = self._policy.judged(holding.task.caller)
                await self._images.create(caller, _new_image(image_id, properties))
            kill_point("task_image_made")
            await self._fill(holding, image_id, str(given["import_from"]), store_id=None)
        except (Busy, CatalogDown):
            raise
        except TidegateError:
            await self._remove(image_id)
            raise
        return {"image_id": image_id}

    async def _fill(
        self, holding: Holding, image_id: str, url: str, *, store_id: str | None
    ) -> None:
        """Bring the bytes into the image, unless a former holder did. TidegateError: why not."""
        task = holding.task
        attempts = await self._ended_attempts(task, image_id)
        if any(one.state is UploadState.DONE for one in attempts):
            return
        image = await self._image(image_id)
        if attempts and not _goes_on(attempts, image):
            failure = attempts[-1].failure
            assert failure is not None
            raise Conflict(failure.message)
        if image is None:
            raise Gone("The image was deleted; nothing is copied into it.")
        async with Fetching(self._remote, url, patience=self._patience) as source:
            try:
                await self._send(holding, image, source, store_id)
            except AttemptLost as error:  # what became of it decides
                raise Busy(error.message, retry_after=1) from error

    async def _send(
        self, holding: Holding, image: Image, source: Fetching, store_id: str | None
    ) -> None:
        task, converting = holding.task, self._converting
        send = partial(
            self._uploads.upload,
            self._policy.judged(task.caller),
            image.id,
            store_id=store_id,
            request_id=task.request_id,
            attempt=task.attempt,
            repeatable=True,
        )
        expected = Expected(length=source.size)
        if task.type is TaskType.IMPORT and converting and converting.concerns(image):
            async with converting.converted(holding, image, source, expected) as made:
                holding.progress = lambda: f"Copied {made.received // 2**20} MiB"
                await send(made, Expected(length=made.size), becomes=RAW)
            return
        holding.progress = lambda: f"Copied {source.received // 2**20} MiB"
        await send(source, expected)

    async def _ended_attempts(self, task: Task, image_id: str) -> list[Upload]:
        """This task's attempts, oldest first, once none of them is open."""
        while True:
            found = [
                upload
                for upload in await self._catalog.uploads_of(image_id)
                if upload.id in task.attempts
            ]
            if not any(upload.state in OPEN for upload in found):
                return found
            await asyncio.sleep(LOOK_EVERY)

    async def _image(self, image_id: str) -> Image | None:
        with suppress(NotFound):
            return await self._catalog.get_image(image_id, _EVERYBODY)
        return None

    async def _refuse(self, task: Task, image_id: str) -> None:
        """Kill an image whose copying could not begin; what broke has had its own end."""
        attempts = await self._ended_attempts(task, image_id)
        if all(may_be_repeated(attempt) for attempt in attempts):
            kill_point("task_refusing")
            with suppress(BadTransition, NotFound):
                await self._catalog.advance(image_id, Event.REFUSE)

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


def _goes_on(attempts: list[Upload], image: Image | None) -> bool:
    """Whether there is an attempt to follow those that failed."""
    queued = image is not None and image.status is Status.QUEUED
    return queued and may_be_repeated(attempts[-1]) and len(attempts) < MAX_ATTEMPTS


def may_be_repeated(upload: Upload) -> bool:
    """Whether it broke for a reason that says nothing of the bytes."""
    return upload.failure is not None and upload.failure.reason in _AGAIN


def _new_image(image_id: str, properties: Mapping[str, Any]) -> NewImage:
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
