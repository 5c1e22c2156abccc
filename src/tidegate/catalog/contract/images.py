"""The catalog's contract: the record of images."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tidegate.domain.image import Image, Location
from tidegate.domain.policy import Caller
from tidegate.domain.quota import UNLIMITED, Allowance
from tidegate.domain.status import GONE, Event, Status
from tidegate.domain.task import Task
from tidegate.domain.upload import Removal


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """For whose eyes a query is: an admin sees every image, a project its own, the public and
    community ones, and the shared ones it is a member of."""

    project: str | None = None
    admin: bool = False

    @classmethod
    def of(cls, caller: Caller) -> "Viewer":
        return cls(project=caller.project, admin=caller.is_admin)


EVERYTHING = Viewer(admin=True)
"""For the gateway's own eyes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddLocation:
    """Add a location to a queued (→ active) or active image, at ``position`` (None: the end).

    ``learnt`` (``size``, ``checksum``, ``hash_algo``, ``hash_value``) is written only where the
    image has null. BadTransition; Invalid: the same store and key is there, or the formats are not
    set; TooLarge past ``limit`` (negative: none); Conflict: the image has something else than was
    learnt, or it is queued and was active before, and this is no ``refill``.
    """

    location: Location
    position: int | None = None
    limit: int = -1
    refill: bool = True
    learnt: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RemoveLocation:
    """Remove the location at ``index`` (−1: the last) of an active image. Removing the only one
    takes it back to queued and clears size, checksum and hashes. BadTransition; Invalid: no such
    index; Forbidden: the last one of a protected image."""

    index: int


@dataclass(frozen=True, slots=True)
class DescribeLocation:
    """Give the location of this store and key other metadata."""

    store: str
    key: str
    metadata: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class LeaveStore:
    """Remove an active image's locations in this store. BadTransition; Forbidden: the image is
    protected, or no other store holds its data; NotFound: this one does not."""

    store: str


LocationEdit = AddLocation | RemoveLocation | DescribeLocation | LeaveStore


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageChange:
    """A change of an image; a field left out stays.

    ``fields`` are column names of ``Image`` and their new values (never ``status``); ``put`` and
    ``drop`` are properties; ``tags`` replaces all of them. ``only_in`` names the statuses in
    which the change is legal (else BadTransition). ``max_properties`` holds when a new name is
    put (negative: no limit); names that begin with ``os_glance`` do not count. ``allowance``
    holds when a location is added. Without ``publish_unverified`` no image becomes public, nor a
    public one gets a location, where data of it was never read (Unverified).
    """

    fields: Mapping[str, object] = field(default_factory=dict)
    put: Mapping[str, str | None] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    tags: tuple[str, ...] | None = None
    only_in: frozenset[Status] | None = None
    max_properties: int = -1
    locations: Sequence[LocationEdit] = ()
    allowance: Allowance = UNLIMITED
    publish_unverified: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One filter: ``column`` is an ``Image`` field, ``property:NAME``, ``tag`` or ``any_size``
    (the size, else what was declared of it, else 0); ``op`` is ``eq ne gt ge lt le in``, or
    ``within`` and ``outside`` of [low, high); a null never matches. Conditions are joined by
    and."""

    column: str
    op: str
    value: object


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageQuery:
    """A page of images.

    ``visibility`` None: all that the viewer sees but other projects' community images; a name:
    that one; "all": everything the viewer may see. ``member_status``: of shared images, those
    where the viewer's membership has it ("all": any). ``sort`` is (column, descending) pairs;
    created_at and id are appended as tie-breakers. ``marker`` is the id of the last image of the
    page before. ``as_user``: an admin is shown what a user of its project would be; of no
    project: what is public or has no owner. ``without`` are statuses to leave out; without those
    that are gone among them, the marker may be gone too.
    """

    viewer: Viewer
    as_user: bool = False
    conditions: Sequence[Condition] = ()
    visibility: str | None = None
    member_status: str = "accepted"
    hidden: bool | None = False
    without: frozenset[Status] = GONE
    sort: Sequence[tuple[str, bool]] = (("created_at", True),)
    limit: int = 25
    marker: str | None = None


class Images(Protocol):
    async def create_image(
        self, image: Image, *, task: Task | None = None, allowance: Allowance = UNLIMITED
    ) -> Image:
        """Insert a new image as given (``created_at`` and ``updated_at`` are set here), and a
        pending task about it. Its status must be one of INITIAL; a location that is not our
        own is unverified. Conflict if the id was ever
        used; TooLarge: past what its project may hold."""

    async def get_image(self, image_id: str, viewer: Viewer) -> Image:
        """One query. NotFound when absent, deleted or not for the viewer's eyes."""

    async def get_image_or_gone(self, image_id: str, viewer: Viewer) -> Image:
        """As ``get_image``, of images that are deleted or about to be as well."""

    async def list_images(self, query: ImageQuery) -> list[Image]:
        """Invalid when the marker is unknown to the viewer."""

    async def change_image(
        self, image_id: str, change: ImageChange, *, task: Task | None = None
    ) -> tuple[Image, list[Removal]]:
        """All or nothing, in the order: fields, properties, tags, locations, and a pending task
        about the image. The removals are
        our own bytes that no image references any more. NotFound, BadTransition (``only_in``),
        TooLarge (``max_properties``, ``allowance``), Unverified, and what the location edits
        raise."""

    async def set_tag(self, image_id: str, tag: str, *, limit: int) -> None:
        """Add one tag; TooLarge past ``limit`` tags (negative: none). NotFound."""

    async def drop_tag(self, image_id: str, tag: str) -> None:
        """NotFound, also when the image has no such tag."""

    async def advance(self, image_id: str, event: Event) -> Image:
        """Apply an event that touches nothing but the status. NotFound, BadTransition."""

    async def deactivate(self, image_id: str, *, by_admin: bool) -> None:
        """active → deactivated, and by whom; an admin's word also replaces the owner's, whose
        own changes nothing more. NotFound, BadTransition."""

    async def reactivate(self, image_id: str, *, by_admin: bool) -> None:
        """deactivated → active; nothing changes where it is active. NotFound, BadTransition;
        Forbidden: an admin deactivated it."""

    async def statuses(self, image_ids: Collection[str]) -> dict[str, Status]:
        """Of those that are there at all, deleted or not. One query."""

    async def delete_image(self, image_id: str, *, delayed: bool = False) -> list[Removal]:
        """DELETE: not when protected (Forbidden). Own bytes that no other image references are
        written down as removals in the same transaction and returned. With ``delayed``,
        DELETE_LATER for one that has data and may have it: nothing is removed yet. NotFound."""
