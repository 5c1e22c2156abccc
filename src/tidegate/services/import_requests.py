"""What may be imported, into which stores, and for whom: asked for here, done by ``importing``."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidegate.catalog.base import EVERYTHING, Catalog, Viewer
from tidegate.domain.errors import Conflict, Invalid, LocationRefused, NotFound
from tidegate.domain.image import Image
from tidegate.domain.importing import NEEDED, Method
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import Status
from tidegate.domain.task import LOCK, Task, TaskStatus, TaskType
from tidegate.services.elsewhere import Elsewhere
from tidegate.services.refilling import refuse_refill
from tidegate.services.staging import staged_attempt
from tidegate.services.tasks import Tasks
from tidegate.settings import Import as Settings
from tidegate.settings import Locations
from tidegate.stores.base import Store
from tidegate.stores.http import HttpStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportRequest:
    """What a caller asks for. ``body`` is the whole request, ``source`` what it says of the
    method, ``stores`` those named in it, ``store_by_header`` the one named in a header."""

    method: str
    source: Mapping[str, object] = field(default_factory=dict)
    stores: tuple[str, ...] = ()
    store_by_header: str | None = None
    all_stores: bool = False
    all_must_succeed: bool = True
    body: Mapping[str, object] = field(default_factory=dict)


class ImportRequests:
    """``stores`` are all of them; those that take data are what an import can be for."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        policy: Policy,
        tasks: Tasks,
        *,
        elsewhere: Elsewhere,
        remote: HttpStore,
        settings: Settings,
        locations: Locations,
        default_store: str,
    ) -> None:
        self._catalog = catalog
        self._stores = stores
        self._policy = policy
        self._tasks = tasks
        self._elsewhere = elsewhere
        self._remote = remote
        self._settings = settings
        self._locations = locations
        self._default_store = default_store

    @property
    def methods(self) -> tuple[str, ...]:
        return self._settings.methods

    async def ask(
        self,
        caller: Caller,
        image_id: str,
        wanted: ImportRequest,
        *,
        request_id: str,
        token: str | None = None,
    ) -> Task | None:
        """A task that imports the image; None: it is everywhere already. NotFound, Conflict,
        Invalid, Forbidden, in the order in which Glance looks. ``token`` is the caller's, for the
        other image service of a glance-download."""
        if wanted.method not in self.methods:
            raise Invalid(f"Unknown import method name '{wanted.method}'.")
        method = Method(wanted.method)
        image = await self._catalog.get_image(image_id, Viewer.of(caller))
        self._policy.require(caller, "get_image", image)
        await self._check_status(image, method)
        if method == Method.REMOTE:
            self._elsewhere.check(wanted.source)
        rule = "copy_image" if method == Method.COPY else "modify_image"
        self._policy.require(caller, rule, image)
        if method != Method.COPY:
            refuse_refill(caller, image, self._locations)
        await self._check_lock(image)
        stores = self._targets(image, method, wanted)
        if not stores:
            return None
        if method == Method.WEB:
            self._check_uri(wanted.source.get("uri"))
        given: dict[str, object] = {
            "image_id": image_id,
            "import_req": wanted.body,
            "backend": list(stores),
        }
        if method == Method.REMOTE:
            given["authenticated"] = token is not None

        async def insert(task: Task) -> Task:
            if token is not None and method == Method.REMOTE:
                self._elsewhere.remember(task.id, token)
            return await self._catalog.ask_for_import(task, NEEDED[method])

        return await self._tasks.add(
            caller,
            TaskType.API_IMAGE_IMPORT,
            given,
            image_id=image_id,
            request_id=request_id,
            insert=insert,
        )

    async def _check_status(self, image: Image, method: Method) -> None:
        if image.status is Status.ACTIVE and method != Method.COPY:
            raise Conflict("Image with status active cannot be target for import")
        if image.status is not Status.ACTIVE and method == Method.COPY:
            raise Conflict("Only images with status active can be targeted for copying")
        if image.status is not NEEDED[method]:
            if method == Method.DIRECT:
                raise _not_staged()
            raise Conflict(f"Image needs to be in 'queued' state to use '{method}' method")
        if method == Method.DIRECT and await staged_attempt(self._catalog, image.id) is None:
            raise _not_staged()
        for name in ("container_format", "disk_format"):
            if getattr(image, name) is None:
                raise Conflict(f"'{name}' needs to be set before import")

    async def _check_lock(self, image: Image) -> None:
        holder = image.properties.get(LOCK)
        if holder is None:
            return
        try:
            task = await self._catalog.get_task(holder, EVERYTHING)
        except NotFound:
            return
        if task.status in (TaskStatus.PENDING, TaskStatus.PROCESSING):
            raise Conflict("Image has active task")

    def _targets(self, image: Image, method: Method, wanted: ImportRequest) -> tuple[str, ...]:
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
        if method != Method.COPY:
            return tuple(chosen)
        there = {location.store for location in image.locations}
        if not wanted.all_stores:
            for one in chosen:
                if one in there:
                    raise Invalid(f"Image is already present at store '{one}'")
        return tuple(one for one in chosen if one not in there)

    def _check_uri(self, uri: object) -> None:
        try:
            self._remote.check(uri if isinstance(uri, str) else "")
        except LocationRefused as error:
            raise Invalid(
                f"URI for {Method.WEB} does not pass filtering: {error.message}"
            ) from error


def _not_staged() -> Conflict:
    return Conflict(f"Image needs to be staged before '{Method.DIRECT}' method can be used")
