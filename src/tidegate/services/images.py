"""The record of an image: create, show, list, change, tag, delete."""

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

from tidegate.catalog.base import (
    Catalog,
    ImageChange,
    ImageQuery,
    Viewer,
)
from tidegate.domain.errors import (
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    TooLarge,
    Unverified,
)
from tidegate.domain.image import Image, Visibility
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.quota import UNLIMITED
from tidegate.domain.status import FORMATS_OPEN, Status
from tidegate.domain.task import Task
from tidegate.services.locations import Locations, LocationsEdit, NewLocation
from tidegate.services.quotas import ProjectQuotas
from tidegate.services.removals import Removals
from tidegate.settings import Quotas
from tidegate.telemetry import log

MAX_NAME = 255
RESERVED = frozenset({"location", "deleted", "deleted_at"})
_VISIBILITY_RULES = {
    Visibility.PUBLIC: "publicize_image",
    Visibility.COMMUNITY: "communitize_image",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class NewImage:
    """What a caller says of a new image; every value is of the right type already. A tag that is
    given twice counts twice, and is kept once.

    ``owner`` counts only with ``owner_given``. ``fields`` are plain columns (name, formats, …).
    ``size`` and ``checksum`` are what the client announces of data to come. ``location`` is a
    URL to register. ``empty``: the size was given as 0 and no data follows.
    """

    id: str | None = None
    owner: str | None = None
    owner_given: bool = False
    visibility: Visibility = Visibility.SHARED
    fields: Mapping[str, Any] = field(default_factory=dict)
    properties: Mapping[str, str | None] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    size: int | None = None
    checksum: str | None = None
    location: str | None = None
    empty: bool = False


@dataclass(frozen=True, slots=True)
class Edit:
    """One step of a change. ``op``: ``add`` (or overwrite), ``create`` (Conflict if it is
    there), ``replace`` or ``remove``; ``name`` is a field, a property or ``tags``."""

    op: str
    name: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Page:
    """Images of a list; ``marker`` is where the next page begins (None: there is none). Policy
    may have hidden some, so a page can be short and yet not the last."""

    images: tuple[Image, ...]
    marker: str | None


class Images:
    def __init__(
        self,
        catalog: Catalog,
        policy: Policy,
        locations: Locations,
        removals: Removals,
        *,
        quotas: Quotas,
        delayed: bool = False,
        projects: ProjectQuotas | None = None,
    ) -> None:
        self._catalog = catalog
        self._policy = policy
        self._locations = locations
        self._removals = removals
        self._quotas = quotas
        self._delayed = delayed
        self._projects = projects or ProjectQuotas(quotas)

    async def show(self, caller: Caller, image_id: str) -> Image:
        image = await self._catalog.get_image(image_id, Viewer.of(caller))
        if not self._policy.allows(caller, "get_image", image):
            raise NotFound(f"No image found with ID {image_id}")
        return image

    async def show_v1(self, caller: Caller, image_id: str) -> Image:
        """As ``show``; an admin is shown what is gone as well."""
        known = self._catalog.get_image_or_gone if caller.is_admin else self._catalog.get_image
        image = await known(image_id, Viewer.of(caller))
        if not self._policy.allows(caller, "get_image", image):
            raise NotFound(f"No image found with ID {image_id}")
        return image

    async def for_v1(self, caller: Caller, image_id: str, *actions: str) -> Image:
        """The image (``show_v1``), if the caller may take these actions on it. Forbidden: it may
        not, and the image is public or its own; NotFound for any other."""
        image = await self.show_v1(caller, image_id)
        if all(self._policy.allows(caller, action, image) for action in actions):
            return image
        own = caller.project is not None and caller.project == image.owner
        if own or image.visibility is Visibility.PUBLIC:
            raise Forbidden(f"Forbidden to change or delete image: {image_id}")
        raise NotFound(f"No image found with ID {image_id}")

    async def page(self, caller: Caller, query: ImageQuery) -> Page:
        """``query.viewer`` is replaced by the caller's."""
        self._policy.require(caller, "get_images")
        for column in (*(one.column for one in query.conditions), *(one[0] for one in query.sort)):
            kind, _, name = column.partition(":")
            if kind == "property" and not self._policy.allows_property(caller, "read", name):
                raise Invalid(f"Images cannot be chosen by the property {name}.")
        found = await self._catalog.list_images(replace(query, viewer=Viewer.of(caller)))
        more = 0 < query.limit <= len(found)
        seen = tuple(image for image in found if self._policy.allows(caller, "get_image", image))
        return Page(seen, found[-1].id if more else None)

    async def create(self, caller: Caller, new: NewImage, *, task: Task | None = None) -> Image:
        """Born queued, with the ``task`` that fills it if there is one; active when it is empty or
        comes with a location. Forbidden, Invalid, TooLarge, LocationRefused, NotFound (the
        location's data), Conflict; nothing is made then."""
        image = self.check(caller, new)
        if new.location is not None:
            self._policy.require(caller, "set_image_location", image)
            need_formats(image)
            public = image.visibility is Visibility.PUBLIC
            if public and new.checksum and not self._locations.publish_unverified:
                raise Unverified
            location, size = await self._locations.register(
                NewLocation(url=new.location), declared=new.size or None, by_header=True
            )
            image = image._replace(
                status=Status.ACTIVE,
                size=size,
                checksum=new.checksum,
                locations=(location,),
            )
        elif new.empty:
            image = image._replace(status=Status.ACTIVE, size=0)
        else:
            image = image._replace(declared_size=new.size, declared_checksum=new.checksum)
        allowance = await self._projects.of(image.owner)
        created = await self._catalog.create_image(image, task=task, allowance=allowance)
        log.info("image created", image=created.id, status=created.status)
        return created

    def check(self, caller: Caller, new: NewImage, *actions: str) -> Image:
        """The image that would be created, if the caller may, and take these actions on it.
        Forbidden, TooLarge."""
        owner = new.owner if new.owner_given else caller.project
        image = Image(
            id=new.id or str(uuid4()),
            owner=owner,
            visibility=new.visibility,
            properties=new.properties,
            tags=new.tags,
            **new.fields,
        )
        if not caller.is_admin and owner != caller.project:
            raise Forbidden(f"You are not permitted to create images owned by {owner!r}.")
        self._policy.require(caller, "add_image", image)
        self._check_visibility(caller, image, new.visibility)
        for name in new.properties:
            self._policy.require_property(caller, "create", name)
        for action in actions:
            self._policy.require(caller, action, image)
        self._check_quotas(image)
        return image

    async def change(
        self,
        caller: Caller,
        image_id: str,
        edits: Sequence[Edit | LocationsEdit],
        *,
        fields: Mapping[str, object] | None = None,
        only_in: frozenset[Status] | None = None,
        task: Task | None = None,
    ) -> Image:
        """Apply all of the edits in order, or none. ``fields`` are columns that API v1 alone
        writes (``declared_size``, ``virtual_size``, …), and ``only_in`` the statuses in which it
        does: formats may then change in each of them, and an admin may change what is gone.
        ``task`` is to fill the image. NotFound, Forbidden, Conflict, Invalid, TooLarge,
        LocationRefused, StoreError."""
        image = await (self.show if only_in is None else self.show_v1)(caller, image_id)
        if not edits and only_in is None:
            return image
        change = await self.judge(caller, image, edits, fields=fields, only_in=only_in)
        changed, removals = await self._catalog.change_image(image_id, change, task=task)
        await self._removals.carry_out(removals)
        return changed._replace(member_status=image.member_status)

    async def judge(
        self,
        caller: Caller,
        image: Image,
        edits: Sequence[Edit | LocationsEdit],
        *,
        fields: Mapping[str, object] | None = None,
        only_in: frozenset[Status] | None = None,
    ) -> ImageChange:
        """The ``change`` that the caller may make of the image, not made yet."""
        any_status = only_in is not None
        change = _Draft(self.readable(caller, image), any_status=any_status)
        located = [edit for edit in edits if isinstance(edit, LocationsEdit)]
        if len(located) < len(edits) or any_status:
            self._policy.require(caller, "modify_image", image)
        for edit in edits:
            if isinstance(edit, Edit):
                self._check_edit(caller, image, edit)
                self._check_property(caller, change, edit)
                change.apply(edit)
        if 0 <= self._quotas.tags < len(change.tags or ()):
            raise TooLarge(
                "The limit has been exceeded on the number of allowed image tags. "
                f"Attempted: {len(change.tags or ())}, Maximum: {self._quotas.tags}"
            )
        locations = [
            step for edit in located for step in await self._locations.steps(caller, image, edit)
        ]
        return ImageChange(
            fields={**change.fields, **(fields or {})},
            put=change.put,
            drop=frozenset(change.drop),
            tags=change.tags,
            only_in=FORMATS_OPEN if change.formats_bound else only_in,
            max_properties=self._quotas.properties,
            locations=locations,
            allowance=await self._projects.of(image.owner) if locations else UNLIMITED,
            publish_unverified=self._locations.publish_unverified,
        )

    async def set_tag(self, caller: Caller, image_id: str, tag: str) -> None:
        """NotFound, Forbidden, Invalid, TooLarge."""
        image = await self.show(caller, image_id)
        self._policy.require(caller, "modify_image", image)
        if len(tag) > MAX_NAME or "\0" in tag:
            raise Invalid(f"A tag has at most {MAX_NAME} characters, and none of them is NUL.")
        await self._catalog.set_tag(image_id, tag, limit=self._quotas.tags)

    async def drop_tag(self, caller: Caller, image_id: str, tag: str) -> None:
        image = await self.show(caller, image_id)
        self._policy.require(caller, "modify_image", image)
        await self._catalog.drop_tag(image_id, tag)

    async def delete(self, caller: Caller, image_id: str) -> None:
        """The record first, then the bytes: at once, or where deletes are delayed by the scrubber;
        what a store refuses is the janitor's. NotFound, Forbidden."""
        image = await self.show(caller, image_id)
        self._policy.require(caller, "delete_image", image)
        removals = await self._catalog.delete_image(image_id, delayed=self._delayed)
        log.info("image deleted", image=image_id, was=image.status)
        await self._removals.carry_out(removals)

    def readable(self, caller: Caller, image: Image) -> Image:
        """To be shown: without the properties that the caller may not read."""
        return self._policy.readable(caller, image)

    def _check_visibility(self, caller: Caller, image: Image, wanted: Visibility) -> None:
        rule = _VISIBILITY_RULES.get(wanted)
        if rule is not None:
            self._policy.require(caller, rule, image)

    def _check_quotas(self, image: Image) -> None:
        limits = (
            ("properties", len(image.properties), self._quotas.properties),
            ("tags", len(image.tags), self._quotas.tags),
        )
        for what, count, limit in limits:
            if 0 <= limit < count:
                raise TooLarge(
                    f"The limit has been exceeded on the number of allowed image {what}. "
                    f"Attempted: {count}, Maximum: {limit}"
                )

    def _check_edit(self, caller: Caller, image: Image, edit: Edit) -> None:
        if edit.name == "owner" and edit.op != "remove" and not caller.is_admin:
            raise Forbidden("Owner can't be updated by non admin.")
        if edit.name == "visibility" and edit.op != "remove":
            self._check_visibility(caller, image, Visibility(edit.value))

    def _check_property(self, caller: Caller, change: "_Draft", edit: Edit) -> None:
        if edit.name == "tags" or edit.name in BASE_FIELDS:
            return
        if not self._policy.allows_property(caller, "read", edit.name):
            needed = ["create", "update"]  # whether it is there or not, which is not told
        elif not change.has(edit.name):
            needed = ["create"]
        elif edit.op == "remove":
            needed = ["delete"]
        else:
            needed = [] if change.value(edit.name) == edit.value else ["update"]
        for operation in needed:
            self._policy.require_property(caller, operation, edit.name)


def need_formats(image: Image) -> None:
    """Data can only come when both formats are known. Invalid."""
    if not image.formats_set:
        missing = "Container" if image.disk_format else "Disk"
        raise Invalid(f"{missing} format is not specified.")


class _Draft:
    """The sum of a patch's edits so far, against the image as it was."""

    def __init__(self, image: Image, *, any_status: bool) -> None:
        self._image = image
        self._any_status = any_status
        self.fields: dict[str, Any] = {}
        self.put: dict[str, str | None] = {}
        self.drop: set[str] = set()
        self.tags: tuple[str, ...] | None = None

    @property
    def formats_bound(self) -> bool:
        """Whether the change is legal only while formats are open."""
        touched = {"disk_format", "container_format"} & self.fields.keys()
        return bool(touched) and not self._any_status

    def apply(self, edit: Edit) -> None:
        if edit.name == "tags" or edit.name in BASE_FIELDS:
            self._apply_base(edit)
            return
        there = self.has(edit.name)
        if edit.op == "create" and there:
            raise Conflict(f"Property {edit.name} already present.")
        if edit.op in ("replace", "remove") and not there:
            raise Conflict(f"Property {edit.name} does not exist.")
        if edit.op == "remove":
            self.put.pop(edit.name, None)
            self.drop.add(edit.name)
        else:
            self.drop.discard(edit.name)
            self.put[edit.name] = edit.value

    def has(self, name: str) -> bool:
        if name in self.put:
            return True
        return name in self._image.properties and name not in self.drop

    def value(self, name: str) -> str | None:
        """Of a property that is there."""
        return self.put[name] if name in self.put else self._image.properties[name]

    def _apply_base(self, edit: Edit) -> None:
        if edit.op == "remove":
            raise Forbidden(f"Property {edit.name} may not be removed.")
        if edit.op == "create":
            raise Conflict(f"Property {edit.name} already present.")
        if edit.name == "tags":
            self.tags = tuple(edit.value)
            return
        closed = self._image.status not in FORMATS_OPEN and not self._any_status
        if edit.name.endswith("_format") and closed:
            raise Forbidden(f"Attribute {edit.name} can be only replaced for a queued image.")
        self.fields[BASE_FIELDS[edit.name]] = edit.value


BASE_FIELDS = {
    "name": "name",
    "owner": "owner",
    "visibility": "visibility",
    "protected": "protected",
    "os_hidden": "hidden",
    "min_disk": "min_disk",
    "min_ram": "min_ram",
    "disk_format": "disk_format",
    "container_format": "container_format",
}
"""The fields a client may write, by their names in the API, and as columns."""


def property_name(name: str) -> str:
    """A property's name, checked: printable, in Unicode's NFKC form, at most 255 characters, and
    not reserved. Forbidden, Invalid."""
    folded = unicodedata.normalize("NFKC", name).casefold()
    if folded in RESERVED or folded.startswith("os_glance"):
        raise Forbidden(f"Attribute '{name}' is reserved.")
    if len(name) > MAX_NAME:
        raise Invalid("Custom property should not be greater than 255 characters.")
    if unicodedata.normalize("NFKC", name) != name or not name.isprintable():
        raise Invalid("The name of a property must be printable and in Unicode's NFKC form.")
    return name
