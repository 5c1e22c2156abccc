"""The record of an image, as values; nothing here can change one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from tidegate.domain.status import GONE, Status

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
"""How the ids of images and tasks are written."""


class Visibility(StrEnum):
    PRIVATE = "private"
    SHARED = "shared"
    COMMUNITY = "community"
    PUBLIC = "public"


@dataclass(frozen=True, slots=True)
class Location:
    """Where bytes lie: a store's id and the key in it (for an http store: the URL itself)."""

    store: str
    key: str
    metadata: Mapping[str, object] = field(default_factory=dict)
    own: bool = True  # written by us, so ours to delete


_NONE: Mapping[str, str | None] = MappingProxyType({})


class Image(NamedTuple):
    """One row of the catalog with its properties, tags and locations; given by keyword. (A tuple,
    since one is made for each image that is looked at.)

    Sizes are bytes, ``min_disk`` GiB, ``min_ram`` MiB, times microseconds since 1970 (UTC).
    ``checksum`` is hex MD5, ``hash_value`` hex of ``hash_algo``; ``crc64nvme`` is the whole
    object's CRC-64/NVME as measured by us (None: unknown), kept to check whole downloads.
    ``declared_*`` are what a client announced before data came: never to be trusted.
    ``deactivated_by`` (``admin`` or ``owner``) is shown to nobody.
    """

    id: str
    name: str | None = None
    status: Status = Status.QUEUED
    visibility: Visibility = Visibility.SHARED
    owner: str | None = None
    protected: bool = False
    hidden: bool = False
    disk_format: str | None = None
    container_format: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    size: int | None = None
    virtual_size: int | None = None
    checksum: str | None = None
    hash_algo: str | None = None
    hash_value: str | None = None
    crc64nvme: int | None = None
    declared_size: int | None = None
    declared_checksum: str | None = None
    was_active: bool = False
    claim: str | None = None
    created_at: int = 0
    updated_at: int = 0
    deleted_at: int | None = None
    properties: Mapping[str, str | None] = _NONE
    tags: tuple[str, ...] = ()
    locations: tuple[Location, ...] = ()
    deactivated_by: str | None = None
    member_status: str | None = None  # of the asking project; None: not a member

    @property
    def gone(self) -> bool:
        return self.status in GONE

    @property
    def formats_set(self) -> bool:
        return self.disk_format is not None and self.container_format is not None
