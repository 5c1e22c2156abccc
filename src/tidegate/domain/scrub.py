"""Reading stored bytes again, to find what has changed behind the gateway's back."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What became of one location. ``wrong``: the image is deactivated now, or was; ``undecided``:
    its bytes are wrong and another copy cannot be reached; ``unreachable``: its store does not
    answer, which says nothing of the bytes; ``skipped``: deleted meanwhile."""

    GOOD = "good"
    REPAIRED = "repaired"
    WRONG = "wrong"
    MISSING = "missing"
    UNDECIDED = "undecided"
    UNREACHABLE = "unreachable"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Copy:
    """One location of ours, to be read again; ``since`` is when it was last found good, or else
    when its image was made (microseconds UTC)."""

    id: int
    image_id: str
    store: str
    key: str
    since: int
