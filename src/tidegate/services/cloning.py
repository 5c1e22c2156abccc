"""A new image with the bytes of another, as a task: copied by the store that they lie in, or read
where they lie and sent, in either case as an upload's attempt.

Its store copies them where the new image goes into that same store and is of the same formats, and
the catalog knows of the bytes all that sending them would find out. A store that then says that it
does not copy has them sent by whoever takes the task up next.

The bytes of a deactivated image are cloned by nobody, administrators included: not when it is asked
for, not when a server begins or takes it up, and what runs is cut.
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import uuid4

from tidegate.catalog.base import Catalog
from tidegate.domain.errors import Busy, StoreError
from tidegate.domain.expected import expected_of
from tidegate.domain.image import Image
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.task import Task, TaskType
from tidegate.domain.upload import NOT_COPIED
from tidegate.services.attempts import Attempts
from tidegate.services.filling import Filling, Incoming, new_image
from tidegate.services.images import Images
from tidegate.services.sources import source_of
from tidegate.services.tasks import Holding, Tasks, Work
from tidegate.services.watching import Cut, Watch
from tidegate.stores.base import Store
from tidegate.telemetry import log
from tidegate.transfer.copying import Original
from tidegate.transfer.fetching import fetching_from_one_of

_COPIED = ("name", "disk_format", "container_format", "min_disk", "min_ram")


class Cloning:
    """``patience`` is seconds in which a store must give something."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        policy: Policy,
        images: Images,
        attempts: Attempts,
        filling: Filling,
        tasks: Tasks,
        watch: Watch,
        *,
        patience: float,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._policy = policy
        self._images = images
        self._attempts = attempts
        self._filling = filling
        self._tasks = tasks
        self._watch = watch
        self._patience = patience

    @property
    def works(self) -> Mapping[TaskType, Work]:
        return {TaskType.CLONE: self._clone}

    async def add_clone(self, caller: Caller, given: Mapping[str, Any], *, request_id: str) -> Task:
        """A task that clones the image ``image_id``; the new one is like it but for
        ``image_properties``. NotFound, Forbidden, Conflict, TooLarge; what else is wrong with it,
        the task itself says."""
        self._policy.require(caller, "add_task")
        source = await self._source(caller, given)
        planned = new_image(str(uuid4()), self._properties(caller, source, given))
        self._images.check(caller, planned, "upload_image")
        return await self._tasks.add(caller, TaskType.CLONE, given, request_id=request_id)

    async def _clone(self, holding: Holding) -> Mapping[str, object]:
        """A new image, which is removed again if it cannot be filled."""
        given = holding.task.input
        caller = self._policy.judged(holding.task.caller)

        async def properties() -> Mapping[str, Any]:
            return self._properties(caller, await self._source(caller, given), given)

        return await self._filling.make(holding, properties, partial(self._data, holding.task))

    async def _source(self, caller: Caller, given: Mapping[str, Any]) -> Image:
        image_id = str(given["image_id"])
        return await source_of(self._catalog, self._policy, caller, image_id, done="cloned")

    def _properties(
        self, caller: Caller, source: Image, given: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        """What the new image is to be like, by the names of the API."""
        inherited: dict[str, Any] = {
            name: value
            for name, value in self._policy.readable(caller, source).properties.items()
            if not name.startswith("os_glance")
        }
        inherited |= {name: getattr(source, name) for name in _COPIED}
        return inherited | {"tags": source.tags} | (given.get("image_properties") or {})

    @asynccontextmanager
    async def _data(self, task: Task, new: Image) -> AsyncIterator[Incoming]:
        caller = self._policy.judged(task.caller)
        image = await self._source(caller, task.input)
        opened = fetching_from_one_of(self._stores, image.locations, patience=self._patience)
        anybody = replace(caller, admin=False)  # an administrator's is cut as well
        original = await self._original(task, image, new)
        try:
            if original is not None:
                async with self._watch.over(image, anybody):
                    yield Incoming(original, expected_of(image, image.size))
                return
            async with opened as data, self._watch.over(image, anybody):
                yield Incoming(data, expected_of(image, data.size))
        except Cut as cut:  # it may have been published just before, which decides
            raise Busy(cut.reason.message, retry_after=1) from cut

    async def _original(self, task: Task, image: Image, new: Image) -> Original | None:
        """The image's object, if its store can make the new one's of it."""
        store, known = self._attempts.admit(image.size), self._attempts.known(image)
        here = next((one for one in image.locations if one.store == store.id), None)
        formats = image.disk_format, image.container_format
        same = formats == (new.disk_format, new.container_format)
        if here is None or known is None or not store.can.copy or not same:
            return None
        attempts = await self._filling.ended_attempts(task, new.id)
        if any(one.failure is not None and one.failure.reason == NOT_COPIED for one in attempts):
            log.warning("clone is sent, since its store does not copy", task=task.id,
                        store=store.id)  # fmt: skip
            return None
        try:
            stored = await store.look(here.key)
        except StoreError:  # there may be another place, and who reads there says what is wrong
            return None
        if stored.size != known.size or stored.crc64nvme not in (None, known.crc64nvme):
            return None
        return Original(key=here.key, etag=stored.etag, sent=known, formats=formats)
