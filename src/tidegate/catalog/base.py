"""The contract of the catalog: the record of images, uploads, tasks and what must be removed.

Each method is one transaction. Decisions live inside the statement (``UPDATE … WHERE status IN
(…)``), never in a read before it; after an unknown outcome a call may be repeated. Raises
``CatalogDown`` when the database cannot be reached or stays locked, else the errors named.
Times are microseconds since 1970 (UTC); leases are judged by the catalog's own clock.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from tidegate.domain.image import Image, Location
from tidegate.domain.member import Member, MemberStatus
from tidegate.domain.quota import UNLIMITED, Allowance
from tidegate.domain.scrub import Copy
from tidegate.domain.status import Event, Status
from tidegate.domain.task import Task, TaskEvent, TaskType
from tidegate.domain.upload import Failure, Removal, Sent, Upload


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """For whose eyes a query is: an admin sees every image, a project its own, the public and
    community ones, and the shared ones it is a member of."""

    project: str | None = None
    admin: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AddLocation:
    """Add a location to a queued (→ active) or active image, at ``position`` (None: the end).

    ``learnt`` (``size``, ``checksum``, ``hash_algo``, ``hash_value``) is written only where the
    image has null. BadTransition; Conflict: the same store and key is there; TooLarge past
    ``limit`` (negative: none); Invalid: the formats are not set.
    """

    location: Location
    position: int | None = None
    limit: int = -1
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


LocationEdit = AddLocation | RemoveLocation | DescribeLocation


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageChange:
    """A change of an image; a field left out stays.

    ``fields`` are column names of ``Image`` and their new values (never ``status``); ``put`` and
    ``drop`` are properties; ``tags`` replaces all of them. ``only_in`` names the statuses in
    which the change is legal (else BadTransition). ``max_properties`` holds when a new name is
    put (negative: no limit); names that begin with ``os_glance`` do not count. ``allowance``
    holds when a location is added.
    """

    fields: Mapping[str, object] = field(default_factory=dict)
    put: Mapping[str, str | None] = field(default_factory=dict)
    drop: frozenset[str] = frozenset()
    tags: tuple[str, ...] | None = None
    only_in: frozenset[Status] | None = None
    max_properties: int = -1
    locations: Sequence[LocationEdit] = ()
    allowance: Allowance = UNLIMITED


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
    without: frozenset[Status] = frozenset({Status.DELETED, Status.PENDING_DELETE})
    sort: Sequence[tuple[str, bool]] = (("created_at", True),)
    limit: int = 25
    marker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskQuery:
    """A page of the tasks that did not expire: of all projects for an admin, else of the
    viewer's. ``equal`` maps columns to values, a time's as ISO 8601, compared by whole seconds.
    ``limit`` None: all."""

    viewer: Viewer
    equal: Mapping[str, str] = field(default_factory=dict)
    sort: str = "created_at"
    descending: bool = True
    limit: int | None = 25
    marker: str | None = None


class Catalog(Protocol):
    async def open(self) -> None:
        """Connect; migrate the schema under a lock (SQLite) or check it. CatalogDown."""

    async def close(self) -> None: ...

    async def ping(self) -> None: ...

    # images

    async def create_image(self, image: Image, *, allowance: Allowance = UNLIMITED) -> Image:
        """Insert a new image as given (``created_at`` and ``updated_at`` are set here). Its
        status must be one of INITIAL. Conflict if the id was ever used; TooLarge: past what its
        project may hold."""

    async def get_image(self, image_id: str, viewer: Viewer) -> Image:
        """One query. NotFound when absent, deleted or not for the viewer's eyes."""

    async def get_image_or_gone(self, image_id: str, viewer: Viewer) -> Image:
        """As ``get_image``, of images that are deleted or about to be as well."""

    async def list_images(self, query: ImageQuery) -> list[Image]:
        """Invalid when the marker is unknown to the viewer."""

    async def change_image(self, image_id: str, change: ImageChange) -> tuple[Image, list[Removal]]:
        """All or nothing, in the order: fields, properties, tags, locations. The removals are
        our own bytes that no image references any more. NotFound, BadTransition (``only_in``),
        TooLarge (``max_properties``, ``allowance``), and what the location edits raise."""

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

    # members: each call is about an image whose record is not yet deleted, else NotFound

    async def members_of(self, image_id: str) -> list[Member]:
        """In the order in which they were first invited; none of an unknown image."""

    async def get_member(self, image_id: str, project: str) -> Member:
        """NotFound."""

    async def put_member(
        self,
        image_id: str,
        project: str,
        *,
        can_share: bool | None = None,
        new: bool = False,
        limit: int = -1,
    ) -> Member:
        """Invite a project (status pending, ``can_share`` False where None), again if it was
        removed; change the ``can_share`` of one that is a member, unless that is None. Conflict:
        ``new``, and it is a member. TooLarge: one more than ``limit`` (negative: none)."""

    async def replace_members(
        self, image_id: str, wanted: Mapping[str, bool | None], *, limit: int = -1
    ) -> None:
        """``put_member`` for each project and its ``can_share``, and remove all others: all or
        nothing. TooLarge: members are added, to more than ``limit``."""

    async def drop_member(self, image_id: str, project: str) -> None:
        """NotFound, also when it is no member."""

    async def set_member_status(self, image_id: str, project: str, status: MemberStatus) -> Member:
        """NotFound, also when it is no member."""

    async def shared_with(self, project: str, viewer: Viewer) -> list[Member]:
        """The memberships of a project, as far as they concern the viewer: those in its own
        images, or its own ones while the images are shared; an admin's: all."""

    # uploads: the attempts to fill an image

    async def start_upload(
        self, upload: Upload, *, lease: float, allowance: Allowance = UNLIMITED
    ) -> Image:
        """queued → saving, claimed by ``upload.id``, with the upload's row and a lease of
        ``lease`` seconds. NotFound, BadTransition; Invalid when the formats are not set; TooLarge:
        the image's project has no room for the size expected (None: for a single byte)."""

    async def reserve_bytes(self, attempt: str, most: int, allowance: Allowance) -> int:
        """Let an open attempt hold more of what its image's project may, up to ``most`` bytes;
        how many. TooLarge: there is room for none. BadTransition."""

    async def upload_began(self, attempt: str, upload_id: str) -> None:
        """Write the store's upload id, before the first part. BadTransition: lost the claim."""

    async def renew_upload(self, attempt: str, received: int, *, lease: float) -> None:
        """Renew the lease and record progress. BadTransition when the attempt has lost its
        claim: taken over, ended, or the image deleted (``status`` says where the image is)."""

    async def upload_completing(self, attempt: str, sent: Sent) -> None:
        """Record the verified size and digests, so that another node can finish."""

    async def publish_upload(self, attempt: str, sent: Sent) -> Image:
        """saving → active, guarded by the claim: size, checksum, hashes, CRC and location are
        written, the upload is done. Repeatable. BadTransition when the claim is lost."""

    async def fail_upload(
        self,
        attempt: str,
        failure: Failure,
        event: Event,
        *,
        leftovers: Sequence[str | None],
        reserve: float = 0.0,
        look_again: float | None = None,
        received: int | None = None,
    ) -> list[Removal]:
        """End an attempt: ``event`` (BREAK or RELEASE) is applied if the claim still holds and
        dropped if not; the failure is recorded, with the bytes received (None: as last recorded);
        each of ``leftovers`` (a store's upload id, or
        None for the object itself) becomes a removal of the attempt's key, reserved for the caller
        for ``reserve`` seconds; ``look_again`` adds
        one of the object that is due in so many seconds, and is not among those given. Repeatable.
        BadTransition: the attempt was taken over, and nothing was changed."""

    async def keep_upload(self, attempt: str, *, lease: float) -> None:
        """Renew the lease of an attempt that was taken over, whatever became of its image.
        BadTransition: taken over again, or ended."""

    def let_go(self, attempt: str) -> None:
        """Hold the attempt no longer: once its lease has run out it is anybody's, also ours."""

    async def uploads_of(self, image_id: str) -> list[Upload]:
        """All attempts of an image, oldest first."""

    async def open_uploads(self, attempts: Sequence[str]) -> dict[str, Upload]:
        """Which of these attempts exist, by id (open or ended)."""

    async def take_over_expired(self, node: str, *, lease: float, limit: int = 50) -> list[Upload]:
        """Claim the open attempts whose lease has run out, each for one caller only: their lease
        is renewed for ``node``, and the attempt's former owner can renew no more."""

    # what must go from the stores

    async def due_removals(self, *, lease: float, limit: int = 100) -> list[Removal]:
        """Removals whose time has come, reserved for this caller for ``lease`` seconds."""

    async def removals_waiting(self) -> dict[str, int]:
        """How many removals are written down and not done, by store."""

    async def removal_done(self, removal_id: int) -> None: ...

    async def removal_failed(self, removal_id: int, message: str, *, retry_in: float) -> None: ...

    # tasks

    async def create_task(self, task: Task) -> Task:
        """Insert a pending task; ``created_at`` and ``updated_at`` are set here."""

    async def get_task(self, task_id: str, viewer: Viewer) -> Task:
        """NotFound: absent, expired, or not for the viewer's eyes."""

    async def list_tasks(self, query: TaskQuery) -> list[Task]:
        """Invalid when the marker is unknown to the viewer."""

    async def take_tasks(
        self,
        node: str,
        kinds: Sequence[TaskType],
        *,
        lease: float,
        limit: int,
        mine: Sequence[str] = (),
    ) -> list[Task]:
        """Of these kinds: pending tasks, which are processing from here on, and processing ones
        whose lease has run out; each is held by this caller alone, for ``lease`` seconds. ``mine``
        are left."""

    async def renew_task(
        self,
        task: Task,
        *,
        lease: float,
        message: str | None = None,
        image_id: str | None = None,
    ) -> Task:
        """Renew the lease of a task that is held, and record what is not None. BadTransition:
        taken over, or ended."""

    async def put_task_back(self, task: Task, *, retry_in: float = 0.0) -> None:
        """Hold it no longer: it stays processing, and anybody may take it in ``retry_in`` seconds.
        BadTransition."""

    async def end_task(
        self,
        task: Task,
        event: TaskEvent,
        *,
        keep: float,
        result: Mapping[str, object] | None = None,
        message: str = "",
    ) -> Task:
        """SUCCEED or FAIL; the task expires in ``keep`` seconds. Repeatable by its holder.
        BadTransition."""

    async def purge_tasks(self) -> int:
        """Remove the expired tasks; how many."""

    # objects that lie in a store already

    async def image_at(self, store: str, key: str) -> str | None:
        """The id of a live image that has this location."""

    async def adopt(self, image: Image) -> None:
        """Insert an active image with its one location. Conflict: a live image has that, an
        upload writes it, or it is to be removed."""

    # reading stored bytes again

    async def copies_to_scrub(
        self,
        stores: Sequence[str],
        *,
        before: int,
        after: Copy | None = None,
        image_id: str | None = None,
        limit: int = 50,
    ) -> list[Copy]:
        """Own locations in these stores of images that have data (of this one only), not found
        good since ``before`` (microseconds UTC); the longest unseen first, from ``after`` on."""

    async def take_copy(self, copy: Copy, *, lease: float) -> bool:
        """Whether nobody else reads it now or has done so since, and nobody will for ``lease``
        seconds."""

    async def keep_copy(self, copy: Copy, *, lease: float) -> None: ...

    async def leave_copy(self, copy: Copy, *, good: bool) -> None:
        """Read to its end, or not; ``good``: it holds the right bytes now."""

    async def condemn(self, copy: Copy, failure: Failure) -> None:
        """active → deactivated, with a failed attempt that says why. BadTransition: not active,
        or the location is no longer the image's."""

    async def start_repair(self, repair: Upload, bad: Copy, *, lease: float) -> None:
        """Write down an attempt to replace ``bad`` by an object under another key; it is kept
        (``keep_upload``), failed and taken over like any other. BadTransition."""

    async def repair_began(self, repair: Upload, upload_id: str) -> None:
        """Write the store's upload id, before the first part. BadTransition: taken over."""

    async def finish_repair(self, repair: Upload, bad: Copy, received: int) -> list[Removal]:
        """The location points to the new object from now on, the bad one must go. Repeatable.
        BadTransition: taken over, or the location is no longer the image's."""


class Deletions(Protocol):
    """The catalog's other half of a delete: what the scrubber and the purger ask of it."""

    async def begin_scrubs(
        self, *, delay: float, lease: float, limit: int = 50
    ) -> tuple[int, list[Removal]]:
        """Of images pending_delete for ``delay`` seconds or longer, take some that nobody took:
        how many. Their own bytes that no other image needs are written down as removals,
        reserved for the caller for ``lease`` seconds."""

    async def finish_scrubs(self, *, limit: int = 50) -> list[str]:
        """SCRUB: images that were taken and whose bytes are gone become deleted; their ids."""

    async def purge(self, *, after: float, limit: int = 50) -> int:
        """Of images deleted for ``after`` seconds or longer nothing is kept but the id, which is
        never used again. Not while bytes are to be removed, an attempt is open or a task runs.
        How many; fewer than ``limit``: there are no more."""

    async def take_turn(self, name: str, seconds: float) -> bool:
        """True for one caller, and for the next one after ``seconds`` or a reboot."""


class Fate(StrEnum):
    """What the catalog knows of an object that a store holds under a key of ours."""

    NEEDED = "needed"  # by an image, or by who is working on it or on its removal
    ORPHAN = "orphan"  # of an attempt or an image that is over
    UNKNOWN = "unknown"  # never written down here: perhaps this catalog is older than the object


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A location of our own, and what the object there must be like. ``id`` is the row's."""

    id: int
    image_id: str
    status: Status
    store: str
    key: str
    size: int | None
    crc64nvme: int | None


@dataclass(frozen=True, slots=True)
class Flaw:
    """Something in the catalog that cannot be as it is: ``subject`` is an attempt's, an image's
    or a removal's id; for rows of no image, ``table:image id``."""

    what: str
    subject: str
    detail: str = field(compare=False)


DAMAGE = "os_glance_damage"
"""The property that says why an image's bytes cannot be had; no client can set it."""


class Checks(Protocol):
    """What a check of the catalog against the stores asks. Keys are ``image id/attempt id``."""

    async def fates(self, store: str, keys: Sequence[str]) -> dict[str, Fate]:
        """All judged at one moment. An object's key was written down before its first byte, so
        that one which was listed before this call is never taken for an orphan in between."""

    async def remove_orphan(
        self, store: str, key: str, *, unknown: bool, lease: float
    ) -> Removal | None:
        """Write down the removal of an orphan (with ``unknown``: of an unknown object too), if
        it is one still: judged again in the same transaction. None: it is not."""

    async def own_locations(
        self, after: int, *, limit: int, image_id: str | None = None
    ) -> list[Held]:
        """Of active and deactivated images (or of this one), by row id; without those whose
        damage is known."""

    async def is_held(self, location: Held) -> bool:
        """Whether it is still a location of an image that is alive."""

    async def give_up_location(self, location: Held, reason: str, *, spare: bool) -> str:
        """Its bytes are lost or wrong. With ``spare`` (another location has the right ones) the
        location is dropped; else the image is deactivated and says why. What was done; empty:
        the location was gone already."""

    async def stale_copies(self, after: str, *, limit: int) -> tuple[str | None, list[str]]:
        """Of the next images by id, those whose row differs from the tables it copies; and where
        to go on (None: at the end)."""

    async def flaws(self, *, older_than: float, limit: int = 1000) -> list[Flaw]:
        """``lease`` (an attempt whose lease was over ``older_than`` seconds ago), ``saving`` (no
        attempt is open), ``removal`` (owed that long, or refused often), ``needed`` (a removal of
        bytes that an image needs), ``rows`` (of no image), ``deletion`` (an image that is gone and
        that no scrubber or purger knows); at most ``limit`` of each."""

    async def mend(self, flaw: Flaw) -> None:
        """What can be mended here, and by stale copies (``copies``); a ``lease`` is the reaper's
        and a ``removal`` is made due at once. Repeatable."""
