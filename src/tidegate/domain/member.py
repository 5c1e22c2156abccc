"""A project that an image is shared with, as values."""

from dataclasses import dataclass
from enum import StrEnum


class MemberStatus(StrEnum):
    """What the invited project says to it; only its own lists of images heed it."""

    PENDING = "pending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """``project`` may read the image, and invite and remove others if it ``can_share``. Times are
    microseconds since 1970 (UTC); ``created_at`` stays that of the first sharing."""

    image_id: str
    project: str
    status: MemberStatus = MemberStatus.PENDING
    can_share: bool = False
    created_at: int = 0
    updated_at: int = 0
