"""An image's bytes out of here, as a task: to a key of a store or to a URL, where the operator
allows it.

The bytes of a deactivated image are exported by nobody, administrators included: not when it is
asked for, not when a server begins or takes it up, and what runs is cut. A PUT to a URL replaces
what is there, as PUTs do; it is whole only with all the right bytes, and so may be said again.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from tidegate.domain.errors import SourceBroke
from tidegate.domain.expected import verify
from tidegate.domain.export import StoreTarget, UrlTarget, check_allowed, target_of
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.task import Task, TaskType
from tidegate.domain.upload import Sent
from tidegate.killpoints import kill_point
from tidegate.services.export_objects import ExportObjects
from tidegate.services.sources import Sources
from tidegate.services.tasks import Holding, Tasks, Work
from tidegate.services.trying import again_and_again
from tidegate.settings import Export as ExportSettings
from tidegate.stores.http_put import HttpPut
from tidegate.transfer.digest import DigestPool
from tidegate.transfer.memory import Arena
from tidegate.transfer.outgoing import Outgoing


class Exporting:
    """``algorithms`` are the digests that are told of what was exported to a URL."""

    def __init__(
        self,
        policy: Policy,
        tasks: Tasks,
        sources: Sources,
        objects: ExportObjects,
        sender: HttpPut,
        *,
        settings: ExportSettings,
        algorithms: tuple[str, ...],
        arena: Arena,
        digests: DigestPool,
    ) -> None:
        self._policy = policy
        self._tasks = tasks
        self._sources = sources
        self._objects = objects
        self._sender = sender
        self._settings = settings
        self._algorithms = algorithms
        self._arena = arena
        self._digests = digests

    @property
    def works(self) -> Mapping[TaskType, Work]:
        return {TaskType.EXPORT: self._export}

    async def add_export(
        self, caller: Caller, given: Mapping[str, Any], *, request_id: str
    ) -> Task:
        """A task that exports the image ``image_id`` to where ``given`` says. Invalid, NotFound,
        Forbidden, Conflict; what lies there already, the task itself says."""
        self._policy.require(caller, "add_task")
        self._target(given)
        image = await self._sources.find(caller, given["image_id"])
        return await self._tasks.add(
            caller, TaskType.EXPORT, given, image_id=image.id, request_id=request_id
        )

    async def _export(self, holding: Holding) -> Mapping[str, object]:
        task = holding.task
        image_id = str(task.input["image_id"])
        caller = self._policy.judged(task.caller)
        target = self._target(task.input)
        if isinstance(target, StoreTarget):
            opened = partial(self._sources.open, caller, image_id)
            sent = await self._objects.bring(holding, target, opened)
            return _result(image_id, self._objects.url(target), sent)
        put = partial(self._put, holding, caller, image_id, target.url)
        return _result(image_id, target.url, await again_and_again(put))

    def _target(self, given: Mapping[str, object]) -> StoreTarget | UrlTarget:
        target = target_of(given)
        check_allowed(target, stores=self._settings.stores, urls=self._settings.urls)
        return target

    async def _put(self, holding: Holding, caller: Caller, image_id: str, url: str) -> Sent:
        async with self._sources.open(caller, image_id) as outbound:
            source, expected = outbound.source, outbound.expected
            size = expected.total
            if size is None:
                raise SourceBroke("The source does not say how long it is.")

            async def judge(sent: Sent) -> None:
                verify(sent, expected)
                await self._sources.find(caller, image_id)
                kill_point("export_sending")

            outgoing = Outgoing(
                source,
                size=size,
                arena=self._arena,
                digests=self._digests.open(sorted({*self._algorithms, *expected.digests})),
                judge=judge,
            )
            holding.progress = lambda: f"Exported {source.received // 2**20} MiB"
            async with outbound.watched:
                return await outgoing.send(partial(self._sender.put, url, size))


def _result(image_id: str, location: str, sent: Sent) -> Mapping[str, object]:
    algorithm = sent.strongest
    return {
        "image_id": image_id,
        "location": location,
        "size": sent.size,
        "checksum": sent.digests.get("md5"),
        "os_hash_algo": algorithm,
        "os_hash_value": None if algorithm is None else sent.digests[algorithm],
    }
