"""Reading stored bytes again, to find what has changed behind the gateway's back."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from tidegate.domain.image import Image
from tidegate.domain.upload import Sent


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
    """One location, to be read again; ``since`` is when it was last found good, or else when its
    image was made (microseconds UTC)."""

    id: int
    image_id: str
    store: str
    key: str
    since: int


def algorithms(image: Image) -> list[str]:
    """Those whose digest the catalog knows, as far as they can be computed."""
    strong = image.hash_algo if image.hash_value is not None else None
    wanted = ["md5" if image.checksum is not None else None, strong]
    return [name for name in wanted if name and name in hashlib.algorithms_guaranteed]


def unknown(image: Image, algorithm: str | None) -> dict[str, str]:
    """The digests (columns) that the catalog does not know, and by what they are computed; by
    ``algorithm`` where the image names none."""
    strong = image.hash_algo or algorithm
    found = {"checksum": "md5"} if image.checksum is None else {}
    return found | ({"hash_value": strong} if image.hash_value is None and strong else {})


def difference(image: Image, sent: Sent) -> str | None:
    """What tells these bytes from the image's; None: nothing."""
    if image.size not in (None, sent.size):
        return f"the object has {sent.size} bytes, not {image.size}"
    known = {"md5": image.checksum, image.hash_algo: image.hash_value}
    for name, digest in sent.digests.items():
        if known.get(name) not in (None, digest):
            return f"the {name} digest is {digest}, not {known[name]}"
    if None not in (image.crc64nvme, sent.crc64nvme) and image.crc64nvme != sent.crc64nvme:
        return "the CRC-64/NVME is another one"
    return None
