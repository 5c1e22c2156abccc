"""Bytes in from a URL, as tasks: API v1's copy-from, and the import task of ``/v2/tasks``.

The bytes go the way of every upload (``filling``).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

from tidegate.catalog.base import Catalog
from tidegate.domain.errors import (
    BadTransition,
    Busy,
    CatalogDown,
    Invalid,
    LocationRefused,
    NotFound,
    ObjectMissing,
    StoreError,
    TidegateError,
)
from tidegate.domain.expected import Expected
from tidegate.domain.image import Image
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import Event
from tidegate.domain.task import Task, TaskType
from tidegate.killpoints import kill_point
from tidegate.services.converting import RAW, Converting
from tidegate.services.filling import Filling, Incoming, may_be_repeated
from tidegate.services.tasks import Holding, Tasks, Work, new_task
from tidegate.services.uploads import Uploads
from tidegate.stores.http import HttpStore
from tidegate.transfer.fetching import UNREACHABLE, Fetching

_LOCAL = ("file:", "filesystem:")


class Imports:
    def __init__(
        self,
        catalog: Catalog,
        policy: Policy,
        uploads: Uploads,
        filling: Filling,
        tasks: Tasks,
        *,
        remote: HttpStore,
        max_size: int,
        patience: float,
        converting: Converting | None = None,
    ) -> None:
        self._catalog = catalog
        self._policy = policy
        self._uploads = uploads
        self._filling = filling
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
            await self._filling.fill(
                holding,
                task.image_id,
                partial(self._data, holding, str(task.input["copy_from"]), convert=False),
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

        async def properties() -> Mapping[str, Any]:
            wanted = given["image_properties"]
            assert isinstance(wanted, dict)
            return wanted

        return await self._filling.make(
            holding,
            properties,
            partial(self._data, holding, str(given["import_from"]), convert=True),
        )

    @asynccontextmanager
    async def _data(
        self, holding: Holding, url: str, image: Image, *, convert: bool
    ) -> AsyncIterator[Incoming]:
        async with Fetching(self._remote, url, patience=self._patience) as source:
            expected, converting = Expected(length=source.size), self._converting
            if convert and converting is not None and converting.concerns(image):
                async with converting.converted(holding, image, source, expected) as made:
                    yield Incoming(made, Expected(length=made.size), RAW)
            else:
                yield Incoming(source, expected)

    async def _refuse(self, task: Task, image_id: str) -> None:
        """Kill an image whose copying could not begin; what broke has had its own end."""
        attempts = await self._filling.ended_attempts(task, image_id)
        if all(may_be_repeated(attempt) for attempt in attempts):
            kill_point("task_refusing")
            with suppress(BadTransition, NotFound):
                await self._catalog.advance(image_id, Event.REFUSE)
