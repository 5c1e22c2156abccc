"""Locations registered by a task: POST of one is answered at once, and its bytes are read later.

With digests that the caller vouches for, the image is importing while its bytes are read, and
active only if they are the right ones; else it is active as soon as the source has said how long
they are, and its digests come when they are known. It is never saving: no byte is kept.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidegate.catalog.base import EVERYTHING, Catalog, Viewer
from tidegate.domain.errors import (
    BadTransition,
    DigestMismatch,
    Forbidden,
    Gone,
    Invalid,
    LocationRefused,
    NotFound,
    SourceBroke,
    StoreError,
    TooLarge,
)
from tidegate.domain.image import Image, Location
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.status import Status
from tidegate.domain.task import Task, TaskType
from tidegate.domain.upload import Sent
from tidegate.killpoints import kill_point
from tidegate.services.locations import Locations
from tidegate.services.quotas import ProjectQuotas
from tidegate.services.refilling import may_refill, refuse_refill
from tidegate.services.tasks import Holding, Tasks, Work, new_task
from tidegate.services.vouching import digest_fault
from tidegate.settings import Locations as Settings
from tidegate.stores.http import HttpStore
from tidegate.telemetry import log
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.fetching import CHANGED, UNREACHABLE, Fetching
from tidegate.transfer.measuring import measure
from tidegate.transfer.memory import Arena
from tidegate.transfer.pace import Pace

LOOK_EVERY = 2.0
"""Seconds between two looks whether the image that is measured is still there."""

SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A location as a client names it; ``vouched``: ``os_hash_algo`` and ``os_hash_value``, or
    nothing."""

    url: str
    vouched: Mapping[str, str] = field(default_factory=dict)


class Registering:
    """``limit``: locations of one image (negative: none). ``algorithm`` is that of the
    ``os_hash_value`` for which nobody vouches; ``patience`` is seconds."""

    def __init__(
        self,
        catalog: Catalog,
        policy: Policy,
        locations: Locations,
        tasks: Tasks,
        *,
        remote: HttpStore,
        settings: Settings,
        limit: int,
        max_size: int,
        algorithm: str | None,
        patience: float,
        arena: Arena,
        digests: DigestPool,
        projects: ProjectQuotas,
    ) -> None:
        self._catalog = catalog
        self._policy = policy
        self._locations = locations
        self._tasks = tasks
        self._remote = remote
        self._settings = settings
        self._limit = limit
        self._max_size = max_size
        self._algorithm = algorithm
        self._patience = patience
        self._arena = arena
        self._digests = digests
        self._projects = projects

    @property
    def works(self) -> Mapping[TaskType, Work]:
        return {TaskType.LOCATION_IMPORT: self._register}

    # for callers

    async def find(self, caller: Caller, image_id: str) -> Image:
        """NotFound."""
        image = await self._catalog.get_image(image_id, Viewer.of(caller))
        self._policy.require(caller, "get_image", image)
        return image

    async def listed(self, caller: Caller, image_id: str) -> list[tuple[str, Mapping[str, Any]]]:
        """URL and metadata of each location, whatever is shown of images elsewhere. NotFound,
        Forbidden."""
        image = await self.find(caller, image_id)
        self._policy.require(caller, "fetch_image_location", image)
        if image.status is Status.DEACTIVATED and not caller.is_admin:
            return []
        return self._locations.places(image)

    async def add(self, caller: Caller, image: Image, wanted: Wanted, *, request_id: str) -> Task:
        """A task that registers the location of a queued image, which is locked for it. What can
        be said without asking the source is said now: BadTransition, Forbidden, Conflict, Invalid,
        TooLarge."""
        if image.status is not Status.QUEUED:
            raise BadTransition(
                f"It's not allowed to add locations if image status is {image.status}.",
                image.status,
            )
        self._policy.require(caller, "add_image_location", image)
        remote = wanted.url.partition("://")[0].lower() in ("http", "https")
        if not remote and SERVICE not in caller.roles | caller.service_roles:
            raise Forbidden("http store must be enabled to use location API by normal user.")
        refuse_refill(caller, image, self._settings)
        if wanted.vouched:
            algorithm, value = wanted.vouched["os_hash_algo"], wanted.vouched["os_hash_value"]
            fault = digest_fault("os_hash_value", algorithm, value)
            if fault is not None:
                raise Invalid(fault)
        try:
            self._remote.check(wanted.url)
        except LocationRefused as error:
            raise Invalid(
                f"URI for add location does not pass filtering: {error.message}"
            ) from error
        if self._limit == 0:
            raise TooLarge(
                "The limit has been exceeded on the number of allowed image locations. "
                "Attempted: 1, Maximum: 0"
            )
        given: dict[str, object] = {"image_id": image.id, "loc_url": wanted.url}
        given["validation_data"] = dict(wanted.vouched)
        kind = TaskType.LOCATION_IMPORT
        task = new_task(caller, kind, given, image_id=image.id, request_id=request_id)
        kill_point("location_asked")
        task = await self._catalog.ask_for_location(task)
        self._tasks.added(task)
        return task

    # the work

    async def _register(self, holding: Holding) -> Mapping[str, object]:
        """Each step asks the catalog how far a former holder came."""
        task = holding.task
        url, vouched = str(task.input["loc_url"]), task.input.get("validation_data") or {}
        assert isinstance(vouched, dict)
        where = Location(self._remote.id, url, own=False)
        image = await self._catalog.begin_location(task, verify=bool(vouched))
        kill_point("location_begun")
        if vouched:
            if image.status is Status.IMPORTING:
                await self._verify(holding, image, where, vouched)
        else:
            if image.status is Status.QUEUED:
                learnt = {"size": await self._size(url), "hash_algo": self._algorithm}
                image = await self._added(task, image, where, learnt)
                kill_point("location_registered")
            await self._measure(holding, where, image)
        return {"image_id": image.id}

    async def _added(
        self, task: Task, image: Image, where: Location, learnt: Mapping[str, object]
    ) -> Image:
        image = await self._catalog.register_location(
            task,
            where,
            learnt,
            refill=may_refill(task.caller, self._settings),
            publish_unverified=self._settings.publish_unverified,
            allowance=await self._projects.of(image.owner),
        )
        log.info("location registered", image=image.id, store=where.store, task=task.id)
        return image

    async def _size(self, url: str) -> int:
        try:
            size = (await self._remote.look(url)).size
        except StoreError as error:
            raise SourceBroke(UNREACHABLE) from error
        return self._sized(size)

    def _sized(self, size: int | None) -> int:
        if not size:
            raise SourceBroke("The source does not say how long the data is, or has none.")
        if size > self._max_size:
            raise TooLarge(f"An image of {size} bytes is larger than max_image_size allows.")
        return size

    async def _verify(
        self, holding: Holding, image: Image, where: Location, vouched: Mapping[str, str]
    ) -> None:
        algorithm, announced = vouched["os_hash_algo"], vouched["os_hash_value"]
        sent = await self._read(holding, where, None, ["md5", algorithm])
        if sent.digests[algorithm] != announced:
            raise DigestMismatch(algorithm, announced, sent.digests[algorithm])
        kill_point("location_verified")
        learnt = {"size": sent.size, "checksum": sent.digests["md5"]}
        digest = {"hash_algo": algorithm, "hash_value": announced}
        await self._added(holding.task, image, where, {**learnt, **digest})
        kill_point("location_measured")

    async def _measure(self, holding: Holding, where: Location, image: Image) -> None:
        """Nothing where the image's digests are known."""
        strong = [] if image.hash_algo is None else [image.hash_algo]
        if image.checksum is not None and (image.hash_value is not None or not strong):
            return
        sent = await self._read(holding, where, image.size, ["md5", *strong])
        learnt = {"checksum": sent.digests["md5"]}
        for algorithm in strong:
            learnt |= {"hash_algo": algorithm, "hash_value": sent.digests[algorithm]}
        await self._catalog.note_digests(holding.task, where, learnt)
        kill_point("location_measured")

    async def _read(
        self, holding: Holding, where: Location, size: int | None, algorithms: Sequence[str]
    ) -> Sent:
        """The whole source, at the pace that the settings allow. SourceBroke, TooLarge,
        LocationRefused; Gone: nobody needs it any more."""
        image_id, pace, looked = holding.task.image_id, Pace(self._settings.hash_rate), 0.0
        assert image_id is not None

        async def went(count: int) -> None:
            nonlocal looked
            if time.monotonic() - looked > LOOK_EVERY:
                await self._still_there(image_id)
                looked = time.monotonic()
            await asyncio.sleep(pace.spend(count))

        async with Fetching(self._remote, where.key, patience=self._patience) as source:
            if size not in (None, self._sized(source.size)):
                raise SourceBroke(CHANGED)
            holding.progress = lambda: f"Read {source.received // 2**20} MiB"
            sent = await measure(
                source,
                algorithms=sorted(set(algorithms)),
                arena=self._arena,
                digests=self._digests,
                went=went,
            )
        if size not in (None, sent.size):
            raise SourceBroke(CHANGED)
        return sent

    async def _still_there(self, image_id: str) -> None:
        try:
            await self._catalog.get_image(image_id, EVERYTHING)
        except NotFound as error:
            raise Gone("The image was deleted; its location is not read any more.") from error
