"""The Import API: an image is filled from what was staged or from elsewhere, or copied, by a task.

One store after the other gets the data: the first from its source, the others from a store that has
it by then; a staged object that lies where it is wanted is not moved. Each copy is an attempt of
its own. Whoever takes the task up next finds by them, and by the image's locations, how far it is;
a copy that broke with its server is begun again, another failure is the task's.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from tidegate.catalog.base import EVERYTHING, Catalog, ImageChange
from tidegate.domain.errors import (
    AttemptLost,
    BadTransition,
    Busy,
    CatalogDown,
    Conflict,
    Forbidden,
    Gone,
    NotFound,
    ObjectChanged,
    StoreDown,
    TidegateError,
)
from tidegate.domain.expected import Expected, can_compute, expected_of
from tidegate.domain.image import Image, Location
from tidegate.domain.importing import NEEDED, Method
from tidegate.domain.status import GONE, Event, Status
from tidegate.domain.task import Task, TaskType
from tidegate.domain.upload import Purpose, Upload
from tidegate.killpoints import kill_point
from tidegate.services.attempts import Attempts
from tidegate.services.converting import RAW, Converting
from tidegate.services.elsewhere import Elsewhere
from tidegate.services.filling import MAX_ATTEMPTS, ended, may_be_repeated
from tidegate.services.staging import staged_attempt
from tidegate.services.tasks import Holding, Work
from tidegate.services.watching import deactivated
from tidegate.stores.base import Store
from tidegate.stores.http import HttpStore
from tidegate.transfer.fetching import Fetching, fetching_from_one_of
from tidegate.transfer.memory import Arena
from tidegate.transfer.scratch import SparseFile
from tidegate.transfer.whole import inspect_stored

_DELETED = "Image has been deleted, aborting import."


@dataclass(frozen=True, slots=True)
class _Order:
    """What a task is to do; ``source`` is the request's description of the source."""

    image_id: str
    method: Method
    source: Mapping[str, object]
    stores: tuple[str, ...]
    all_must_succeed: bool

    @classmethod
    def of(cls, task: Task) -> "_Order":
        request, stores = task.input["import_req"], task.input["backend"]
        assert isinstance(request, dict)
        assert isinstance(stores, list)
        assert task.image_id is not None
        method = request["method"]
        return cls(
            task.image_id,
            Method(method["name"]),
            method,
            tuple(map(str, stores)),
            request.get("all_stores_must_succeed", True),
        )


class Importing:
    """``patience`` is seconds in which a source must give something."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        attempts: Attempts,
        *,
        elsewhere: Elsewhere,
        remote: HttpStore,
        arena: Arena,
        max_properties: int,
        patience: float,
        converting: Converting | None = None,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._attempts = attempts
        self._elsewhere = elsewhere
        self._remote = remote
        self._arena = arena
        self._max_properties = max_properties
        self._patience = patience
        self._converting = converting

    @property
    def works(self) -> Mapping[TaskType, Work]:
        return {TaskType.API_IMAGE_IMPORT: self._import}

    async def _import(self, holding: Holding) -> Mapping[str, object]:
        """What its end is for the image is the catalog's, together with the task's."""
        order, task = _Order.of(holding.task), holding.task
        try:
            await self._ended_copies(task, order)
            image = await self._catalog.begin_import(task, NEEDED[order.method], order.stores)
            if image.status is Status.DEACTIVATED and not task.caller.is_admin:
                raise deactivated()
            kill_point("import_begun")
            await self._fill(holding, order)
        except BadTransition as error:
            if error.status in GONE:
                raise Gone(_DELETED) from error
            raise
        except (Gone, NotFound) as error:
            raise Gone(_DELETED) from error
        self._elsewhere.forget(task.id)
        return {"image_id": order.image_id}

    async def _fill(self, holding: Holding, order: _Order) -> None:
        """Bring the data into each of the stores, or as many as can be."""
        failed: list[str] = []
        why: TidegateError | None = None
        stores = await self._sorted(order)
        for number, store_id in enumerate(stores, 1):
            try:
                await self._bring(holding, order, store_id)
            except AttemptLost as error:  # what became of it decides
                raise Busy(error.message, retry_after=1) from error
            except (Busy, CatalogDown, BadTransition, Gone, NotFound, Forbidden):
                raise
            except TidegateError as error:
                if order.all_must_succeed:
                    raise
                failed.append(store_id)
                why = error
            await self._catalog.note_import(
                holding.task,
                left=stores[number:],
                failed=failed,
                activate=not order.all_must_succeed and len(failed) < number,
            )
            kill_point("import_noted")
        if why is not None and len(failed) == len(stores):
            raise why

    async def _sorted(self, order: _Order) -> list[str]:
        """First the store where nothing has to be moved."""
        staged = await staged_attempt(self._catalog, order.image_id)
        return sorted(order.stores, key=lambda one: staged is None or one != staged.store)

    async def _bring(self, holding: Holding, order: _Order, store_id: str) -> None:
        """Bring the data into one store, unless it is there. TidegateError: why not."""
        task = holding.task
        copies = [one for one in await self._ended_copies(task, order) if one.store == store_id]
        image = await self._catalog.get_image(order.image_id, EVERYTHING)
        if any(location.store == store_id for location in image.locations):
            return
        if copies and not (may_be_repeated(copies[-1]) and len(copies) < MAX_ATTEMPTS):
            failure = copies[-1].failure
            raise Conflict("A copy was lost." if failure is None else failure.message)
        staged = await staged_attempt(self._catalog, order.image_id)
        converting = None if image.locations else self._converting
        if self._converting is not None and image.locations:
            staged = None  # its data may have become another by now
        in_place = converting is None or not converting.concerns(image)
        if staged is not None and staged.store == store_id and in_place:
            virtual_size = await self._check_staged(image, staged)
            await self._catalog.publish_staged(task, staged.id, virtual_size=virtual_size)
            kill_point("staged_published")
            return
        async with self._source(task, order, image, staged) as (source, expected):
            if converting is not None and order.method is not Method.COPY:
                # what it is like may have been taken over from elsewhere
                image = await self._catalog.get_image(order.image_id, EVERYTHING)
                if converting.concerns(image):
                    async with converting.converted(holding, image, source, expected) as made:
                        await self._send(
                            holding, image, store_id, made, Expected(length=made.size), RAW
                        )
                    return
            await self._send(holding, image, store_id, source, expected)

    async def _send(
        self,
        holding: Holding,
        image: Image,
        store_id: str,
        source: Fetching | SparseFile,
        expected: Expected,
        becomes: str | None = None,
    ) -> None:
        task = holding.task
        holding.progress = lambda: f"Copied {source.received // 2**20} MiB"
        await self._attempts.bring(
            self._attempts.begin(
                image.id, expected, store_id=store_id, purpose=Purpose.COPY, task_id=task.id
            ),
            source,
            expected,
            start=partial(self._catalog.start_copy, task=task, deactivated=task.caller.is_admin),
            owner=image.owner,
            broken=Event.BREAK,  # of the attempt; the image is the task's
            stopped=Event.BREAK,
            request_id=task.request_id,
            becomes=becomes,
        )

    @asynccontextmanager
    async def _source(
        self, task: Task, order: _Order, image: Image, staged: Upload | None
    ) -> AsyncIterator[tuple[Fetching, Expected]]:
        """Where the data is, open (of several places the first that can be opened), and what it
        must be like."""
        if staged is None and not image.locations and order.method == Method.REMOTE:
            async with self._remote_data(task, order) as found:
                yield found
            return
        places: Sequence[Location]
        if staged is not None:
            places = [Location(staged.store, staged.key)]
        elif image.locations:
            places = image.locations
        elif order.method == Method.WEB:
            places = [Location(self._remote.id, str(order.source.get("uri")))]
        else:
            raise Conflict("The image has no data that could be copied.")
        opened = fetching_from_one_of(self._stores, places, patience=self._patience)
        async with opened as source:
            yield source, _expected(source.size, image, staged)

    @asynccontextmanager
    async def _remote_data(
        self, task: Task, order: _Order
    ) -> AsyncIterator[tuple[Fetching, Expected]]:
        """Of another image service's image, after what else it is like was taken over."""
        there = await self._elsewhere.find(task, order.source)
        await self._catalog.change_image(
            order.image_id,
            ImageChange(
                fields=there.fields,
                put=there.properties,
                only_in=frozenset({Status.IMPORTING}),
                max_properties=self._max_properties,
            ),
        )
        async with Fetching(there.store, there.url, patience=self._patience) as source:
            digests = {name: one for name, one in there.digests.items() if can_compute(name)}
            yield source, Expected(length=source.size, size=there.size, digests=digests)

    async def _check_staged(self, image: Image, staged: Upload) -> int | None:
        """Its virtual size. ObjectMissing, ObjectChanged: what lies there is not what was staged.
        WrongFormat, UnsafeFormat: nobody looked into it before."""
        store = self._stores.get(staged.store)
        if store is None:
            raise StoreDown(staged.store, "it is not configured on this node")
        stored, sent = await store.look(staged.key), staged.sent
        assert sent is not None
        if stored.size != sent.size or stored.crc64nvme not in (None, sent.crc64nvme):
            raise ObjectChanged(store.id, "the staged data is not what was sent")
        inspection = self._attempts.inspection(image)
        if inspection is None:
            return None
        return await inspect_stored(inspection, store, staged.key, sent.size, arena=self._arena)

    async def _ended_copies(self, task: Task, order: _Order) -> list[Upload]:
        return await ended(self._catalog, order.image_id, lambda one: one.task_id == task.id)


def _expected(length: int | None, image: Image, staged: Upload | None) -> Expected:
    """What the data must be like: as it was staged, as the image has it, or as was announced."""
    if staged is not None and staged.sent is not None:
        return Expected(length=length, size=staged.sent.size, digests=staged.sent.digests)
    return expected_of(image, length)
