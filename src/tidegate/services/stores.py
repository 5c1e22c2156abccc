"""The stores as callers see them: which there are, and one copy of an image taken out of one."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tidegate.catalog.base import Catalog, ImageChange, LeaveStore, Viewer
from tidegate.domain.errors import Conflict
from tidegate.domain.policy import Caller, Policy
from tidegate.killpoints import kill_point
from tidegate.services.removals import Removals
from tidegate.settings import FilesystemStore, HttpStore, S3Store, StoreSettings
from tidegate.settings import Uploads as UploadSettings
from tidegate.stores.base import Store
from tidegate.telemetry import log

HIDDEN = "os_glance_"
"""What the ids of stores that are no business of callers begin with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreInfo:
    """What may be told of a store: nothing that would open it. ``kind`` is Glance's word for its
    type; sizes in ``properties`` are bytes."""

    id: str
    kind: str
    description: str = ""
    default: bool = False
    read_only: bool = False
    properties: Mapping[str, object] = field(default_factory=dict)


class Stores:
    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[str, Store],
        policy: Policy,
        removals: Removals,
        *,
        configured: Iterable[StoreSettings],
        default: str,
        uploads: UploadSettings,
    ) -> None:
        self._catalog = catalog
        self._policy = policy
        self._removals = removals
        settings = {one.id: one for one in configured}
        self.known = tuple(
            _info(settings.get(store.id), store, default, uploads)
            for store in stores.values()
            if not store.id.startswith(HIDDEN)
        )

    def detailed(self, caller: Caller) -> tuple[StoreInfo, ...]:
        """The known ones, for who may have the details. Forbidden."""
        self._policy.require(caller, "stores_info_detail")
        return self.known

    async def drop_copy(self, caller: Caller, store_id: str, image_id: str) -> None:
        """Take an image out of one of the stores that hold it: the location goes, and what must
        be removed is written down with it; then the bytes go. Conflict, NotFound, Forbidden."""
        if all(one.id != store_id for one in self.known):
            raise Conflict(f"The selected store {store_id} is not available on this node.")
        viewer = Viewer.of(caller)
        image = await self._catalog.get_image(image_id, viewer)
        for rule in ("get_image_location", "delete_image_location"):
            self._policy.require(caller, rule, image)
        kill_point("copy_dropping")
        change = ImageChange(locations=[LeaveStore(store_id)])
        _, removals = await self._catalog.change_image(image_id, change)
        log.info("copy dropped", image=image_id, store=store_id)
        await self._removals.carry_out(removals)


def _info(
    settings: StoreSettings | None, store: Store, default: str, uploads: UploadSettings
) -> StoreInfo:
    properties: dict[str, object] = {}
    match settings:
        case S3Store():
            kind = "s3"
            properties = {
                "s3_store_large_object_size": uploads.part_size,
                "s3_store_large_object_chunk_size": uploads.part_size,
                "s3_store_thread_pools": uploads.part_concurrency,
            }
        case FilesystemStore():
            kind = "file"
            properties = {
                "data_dir": str(settings.path),
                "chunk_size": uploads.part_size,
                "thin_provisioning": False,
            }
        case HttpStore() | None:
            kind = "http"
    return StoreInfo(
        id=store.id,
        kind=kind,
        description="" if settings is None else settings.description,
        default=store.id == default,
        read_only=not store.can.write,
        properties=properties,
    )
