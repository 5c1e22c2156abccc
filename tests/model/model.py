"""What images and tasks must be, without a gateway."""

import hashlib
from dataclasses import dataclass, field

from tidegate.domain.status import TRANSITIONS

PART = 5 * 2**20
"""Bytes of a part at the store."""

ORDER = ("pending", "processing", "success", "failure")
"""Of a task's statuses; the last two are ends."""


def followers() -> dict[str, frozenset[str]]:
    """Of each status, those that an image can ever come to."""
    found = {str(status): {str(status)} for row in TRANSITIONS.values() for status in row.sources}
    found |= {str(row.target): {str(row.target)} for row in TRANSITIONS.values()}
    for _ in found:
        for row in TRANSITIONS.values():
            for source in row.sources:
                found[source] |= found[row.target]
    return {status: frozenset(after) for status, after in found.items()}


FOLLOWERS = followers()


@dataclass
class Model:
    """What an image must be. ``may_be``: the statuses it can have while its outcome is open (None:
    it is ``status``), and ``passing`` those of them that it does not stay in. ``locations``: of
    each, whether it is our own object; ``measured``: whether its digests are known. ``members``:
    whether each may share. ``seen``: its status when it was last looked at."""

    id: str
    status: str = "queued"
    data: bytes | None = field(default=None, repr=False)
    locations: list[bool] = field(default_factory=list)
    was_active: bool = False
    may_be: frozenset[str] | None = None
    passing: frozenset[str] = frozenset({"saving"})
    closed_by_admin: bool = False
    digests: tuple[str, str] = ("", "")
    measured: bool = False
    etags: frozenset[str] = frozenset()
    visibility: str = "shared"
    members: dict[str, bool] = field(default_factory=dict)
    seen: str = "queued"

    @property
    def gone(self) -> bool:
        return self.status == "deleted"

    @property
    def fillable(self) -> bool:
        """By its owner."""
        return self.status == "queued" and not self.was_active

    @property
    def readable(self) -> bool:
        return self.status in ("active", "deactivated")

    def claims_unread(self, locations: list[bool]) -> bool:
        """Whether it says digests, and nobody here has read what lies in one of these."""
        return self.measured and not all(locations)

    def seen_by(self, caller: str) -> bool:
        """Of the callers alone the stranger, of project p2, is not let see each image of p1."""
        if self.gone:
            return False
        return (
            caller != "stranger"
            or self.visibility in ("public", "community")
            or (self.visibility == "shared" and "p2" in self.members)
        )

    def shared_by(self, caller: str) -> bool:
        """Whether this caller decides about its members."""
        if caller != "stranger":
            return not self.gone
        return self.seen_by(caller) and self.members.get("p2", False)

    def fill(self, data: bytes, *, own: bool) -> None:
        self.status, self.data, self.was_active = "active", data, True
        self.digests = md5(data), hashlib.sha512(data).hexdigest()
        self.etags = etags(data)
        self.locations, self.measured = [own], own

    def empty(self, status: str) -> None:
        self.status, self.data, self.locations = status, None, []
        self.measured = False

    def open(self, data: bytes, *ends: str, passing: frozenset[str]) -> None:
        """From now on it is being filled with ``data``, and will end as one of ``ends``."""
        self.data, self.passing, self.may_be = data, passing, passing | set(ends)

    def look(self, status: str) -> bool:
        """Learn a status that was read. Whether its outcome was open, and is not any more."""
        assert status in FOLLOWERS[self.seen], (self.id, self.seen, status)
        self.seen = status
        if self.may_be is None:
            return False
        assert status in self.may_be, (self.id, status, self.may_be)
        if status in self.passing:
            return False
        self.may_be, data = None, self.data
        self.empty(status)
        if status == "active":
            assert data is not None
            self.fill(data, own=True)
        return True


@dataclass
class Work:
    """What a task must be. ``image``: of which it is (an import learns that late)."""

    id: str
    data: bytes
    ends: frozenset[str]
    image: str | None = None
    status: str = "pending"

    @property
    def ended(self) -> bool:
        return self.status in ("success", "failure")

    def look(self, status: str, message: str) -> None:
        """Learn a status that was read, and what was said to it."""
        assert not self.ended or status == self.status, (self.id, self.status, status)
        assert ORDER.index(status) >= ORDER.index(self.status), (self.id, self.status, status)
        assert status in self.ends or status in ORDER[:2], (self.id, self.ends, status, message)
        self.status = status


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def etags(data: bytes) -> frozenset[str]:
    """By which the store calls an object with these bytes: as they were sent to it, or as it copied
    them, in one part."""
    copied = f"{md5(hashlib.md5(data).digest())}-1"
    if len(data) <= PART:
        return frozenset({md5(data), copied})
    parts = [
        hashlib.md5(memoryview(data)[at : at + PART]).digest() for at in range(0, len(data), PART)
    ]
    return frozenset({f"{md5(b''.join(parts))}-{len(parts)}", copied})
