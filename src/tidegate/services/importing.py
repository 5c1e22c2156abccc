"""The Import API: an image is filled from what was staged or from elsewhere, or copied, by a task.

One store after the other gets the data: the first from its source, the others from a store that has
it by then; a staged object that lies where it is wanted is not moved. Each copy is an attempt of
its own. Whoever takes the task up next finds by them, and by the image's locations, how far it is;
a copy that broke with its server is begun again, another failure is the task's.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from tidegate.catalog.base import Catalog, Viewer
from tidegate.domain.errors import (
    BadTransition,
    Busy,
    CatalogDown,
    Conflict,
    Forbidden,
    Gone,
    Invalid,
    LocationRefused,
    NotFound,
    ObjectChanged,
    SourceBroke,
    StoreDown,
    TidegateError,
)
from tidegate.domain.image import Image
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import GONE, Event, Status
from tidegate.domain.task import LOCK, Task, TaskStatus, TaskType
from tidegate.domain.upload import OPEN, Purpose, Upload, UploadState
from tidegate.killpoints import kill_point
from tidegate.services.imports import LOOK_EVERY, MAX_ATTEMPTS, may_be_repeated
from tidegate.services.staging import METHOD as DIRECT
from tidegate.services.tasks import Holding, Tasks, Work
from tidegate.services.uploads import Expected, Uploads, with_declared
from tidegate.services.watching import deactivated
from tidegate.settings import Import as Settings
from tidegate.stores.base import Store
from tidegate.stores.http import HttpStore
from tidegate.transfer.fetching import Fetching

WEB = "web-download"
COPY = "copy-image"

NEEDED: Mapping[str, Status] = {
    DIRECT: Status.UPLOADING,
    WEB: Status.QUEUED,
    COPY: Status.ACTIVE,
}
"""The status in which an image can be imported, by method."""

_EVERYBODY = Viewer(admin=True)
_DELETED = "Image has been deleted, aborting import."


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """What a caller asks for. ``body`` is the whole request, ``stores`` those named in it,
    ``store_by_header`` the one named in a header."""

    method: str
    uri: str | None = None
    stores: tuple[str, ...] = ()
    store_by_header: str | None = None
    all_stores: bool = False
    all_must_succeed: bool = True
    body: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Order:
    """What a task is to do."""

    image_id: str
    method: str
    uri: str
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
            str(method["name"]),
            str(method.get("uri", "")),
            tuple(map(str, stores)),
            request.get("all_stores_must_succeed", True),
        )


class Importing:
    """``stores`` are all of them, those that take data are what an import can be for."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        policy: Policy,
        uploads: Uploads,
        tasks: Tasks,
        *,
        settings: Settings,
        default_store: str,
        remote: HttpStore,
        patience: float,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._policy = policy
        self._uploads = uploads
        self._tasks = tasks
        self._settings = settings
        self._default_store = default_store
        self._remote = remote
        self._patience = patience

    @property
    def methods(self) -> tuple[str, ...]:
        return self._settings.methods

    @property
    def works(self) -> Mapping[TaskType, Work]:
        return {TaskType.API_IMAGE_IMPORT: self._import}

    # for callers

    async def ask(
        self, caller: Caller, image_id: str, wanted: ImportRequest, *, request_id: str
    ) -> Task | None:
        """A task that imports the image; None: it is everywhere already. NotFound, Conflict,
        Invalid, Forbidden, in the order in which Glance looks."""
        if wanted.method not in self.methods:
            raise Invalid(f"Unknown import method name '{wanted.method}'.")
        viewer = Viewer(project=caller.project, admin=caller.is_admin)
        image = await self._catalog.get_image(image_id, viewer)
        if not self._policy.allows(caller, "get_image", image):
            raise NotFound(f"No image found with ID {image_id}")
        await self._check_status(image, wanted.method)
        rule = "copy_image" if wanted.method == COPY else "modify_image"
        self._policy.require(caller, rule, image)
        if wanted.method != COPY:
            self._uploads.refuse_refill(caller, image)
        await self._check_lock(image)
        stores = self._targets(image, wanted)
        if not stores:
            return None
        if wanted.method == WEB:
            self._check_uri(wanted.uri)
        given = {"image_id": image_id, "import_req": wanted.body, "backend": list(stores)}
        return await self._tasks.add(
            caller,
            TaskType.API_IMAGE_IMPORT,
            given,
            image_id=image_id,
            request_id=request_id,
            insert=partial(self._catalog.ask_for_import, status=NEEDED[wanted.method]),
        )

    async def _check_status(self, image: Image, method: str) -> None:
        if image.status is Status.ACTIVE and method != COPY:
            raise Conflict("Image with status active cannot be target for import")
        if image.status is not Status.ACTIVE and method == COPY:
            raise Conflict("Only images with status active can be targeted for copying")
        if image.status is not NEEDED[method]:
            if method == DIRECT:
                raise _not_staged()
            raise Conflict(f"Image needs to be in 'queued' state to use '{method}' method")
        if method == DIRECT and await self._staged(image.id) is None:
            raise _not_staged()
        for name in ("container_format", "disk_format"):
            if getattr(image, name) is None:
                raise Conflict(f"'{name}' needs to be set before import")

    async def _check_lock(self, image: Image) -> None:
        holder = image.properties.get(LOCK)
        if holder is None:
            return
        try:
            task = await self._catalog.get_task(holder, _EVERYBODY)
        except NotFound:
            return
        if task.status in (TaskStatus.PENDING, TaskStatus.PROCESSING):
            raise Conflict("Image has active task")

    def _targets(self, image: Image, wanted: ImportRequest) -> tuple[str, ...]:
        named, by_header = wanted.stores, wanted.store_by_header
        if wanted.all_stores and (named or by_header):
            raise Invalid(
                "All_stores parameter can't be used with x-image-meta-store header or stores "
                "parameter"
            )
        if named and by_header:
            raise Invalid("Stores parameter and x-image-meta-store header can't be both specified")
        taking = [store.id for store in self._stores.values() if store.can.write]
        if wanted.all_stores:
            chosen = taking
        else:
            chosen = list(dict.fromkeys(named or (by_header or self._default_store,)))
        for one in chosen:
            if one not in taking:
                raise Conflict(f"Store for identifier {one} not found")
        if wanted.method != COPY:
            return tuple(chosen)
        there = {location.store for location in image.locations}
        if not wanted.all_stores:
            for one in chosen:
                if one in there:
                    raise Invalid(f"Image is already present at store '{one}'")
        return tuple(one for one in chosen if one not in there)

    def _check_uri(self, uri: str | None) -> None:
        try:
            self._remote.check(uri or "")
        except LocationRefused as error:
            raise Invalid(f"URI for {WEB} does not pass filtering: {error.message}") from error

    # the work

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
        return {"image_id": order.image_id}

    async def _fill(self, holding: Holding, order: _Order) -> None:
        """Bring the data into each of the stores, or as many as can be."""
        failed: list[str] = []
        why: TidegateError | None = None
        stores = await self._sorted(order)
        for number, store_id in enumerate(stores, 1):
            try:
                await self._bring(holding, order, store_id)
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
        staged = await self._staged(order.image_id)
        return sorted(order.stores, key=lambda one: staged is None or one != staged.store)

    async def _bring(self, holding: Holding, order: _Order, store_id: str) -> None:
        """Bring the data into one store, unless it is there. TidegateError: why not."""
        task = holding.task
        copies = [one for one in await self._ended_copies(task, order) if one.store == store_id]
        image = await self._catalog.get_image(order.image_id, _EVERYBODY)
        if any(location.store == store_id for location in image.locations):
            return
        if copies and not (may_be_repeated(copies[-1]) and len(copies) < MAX_ATTEMPTS):
            failure = copies[-1].failure
            raise Conflict("A copy was lost." if failure is None else failure.message)
        staged = await self._staged(order.image_id)
        if staged is not None and staged.store == store_id:
            await self._check_staged(staged)
            await self._catalog.publish_staged(task, staged.id)
            kill_point("staged_published")
            return
        async with self._source(order, image, staged) as source:
            holding.progress = lambda: f"Copied {source.received // 2**20} MiB"
            expected = _expected(source.size, image, staged)
            size = expected.length if expected.size is None else expected.size
            store = self._uploads.admit(size, store_id=store_id)
            await self._uploads.bring(
                self._uploads.attempt(image.id, store, size, purpose=Purpose.COPY, task_id=task.id),
                source,
                expected,
                start=partial(
                    self._catalog.start_copy, task=task, deactivated=task.caller.is_admin
                ),
                broken=Event.BREAK,  # of the attempt; the image is the task's
                stopped=Event.BREAK,
                request_id=task.request_id,
            )

    @asynccontextmanager
    async def _source(
        self, order: _Order, image: Image, staged: Upload | None
    ) -> AsyncIterator[Fetching]:
        """Where the data is, open: of several places the first that can be opened."""
        places: Sequence[tuple[str, str]]
        if staged is not None:
            places = [(staged.store, staged.key)]
        elif image.locations:
            ours_first = sorted(image.locations, key=lambda location: not location.own)
            places = [(location.store, location.key) for location in ours_first]
        elif order.method == WEB:
            places = [(self._remote.id, order.uri)]
        else:
            raise Conflict("The image has no data that could be copied.")
        async with AsyncExitStack() as stack:
            for left, (store_id, key) in zip(range(len(places) - 1, -1, -1), places, strict=True):
                store = self._stores.get(store_id)
                try:
                    if store is None:
                        raise StoreDown(store_id, "it is not configured on this node")
                    fetching = Fetching(store, key, patience=self._patience)
                    source = await stack.enter_async_context(fetching)
                except (SourceBroke, StoreDown):
                    if not left:
                        raise
                else:
                    break
            yield source

    async def _check_staged(self, staged: Upload) -> None:
        """ObjectMissing, ObjectChanged: what lies there is not what was staged."""
        store = self._stores.get(staged.store)
        if store is None:
            raise StoreDown(staged.store, "it is not configured on this node")
        stored, sent = await store.look(staged.key), staged.sent
        assert sent is not None
        if stored.size != sent.size or stored.crc64nvme not in (None, sent.crc64nvme):
            raise ObjectChanged(store.id, "the staged data is not what was sent")

    async def _staged(self, image_id: str) -> Upload | None:
        """The attempt whose object waits to be imported."""
        found = await self._catalog.uploads_of(image_id)
        return next((one for one in found if one.state is UploadState.STAGED), None)

    async def _ended_copies(self, task: Task, order: _Order) -> list[Upload]:
        """This task's, oldest first, once none of them is open."""
        while True:
            found = [
                upload
                for upload in await self._catalog.uploads_of(order.image_id)
                if upload.task_id == task.id
            ]
            if not any(upload.state in OPEN for upload in found):
                return found
            await asyncio.sleep(LOOK_EVERY)


def _expected(length: int | None, image: Image, staged: Upload | None) -> Expected:
    """What the data must be like: as it was staged, as the image has it, or as was announced."""
    if staged is not None and staged.sent is not None:
        return Expected(length=length, size=staged.sent.size, digests=staged.sent.digests)
    known = {
        name: value
        for name, value in (("md5", image.checksum), (image.hash_algo, image.hash_value))
        if name is not None and value is not None and _can_compute(name)
    }
    return with_declared(Expected(length=length, size=image.size, digests=known), image)


def _can_compute(algorithm: str) -> bool:
    known = algorithm in hashlib.algorithms_guaranteed
    return known and hashlib.new(algorithm).digest_size > 0


def _not_staged() -> Conflict:
    return Conflict(f"Image needs to be staged before '{DIRECT}' method can be used")
