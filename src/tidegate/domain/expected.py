"""What data must be like: as its sender says, or as its image has it."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from tidegate.domain.errors import DigestMismatch, SizeMismatch
from tidegate.domain.image import Image
from tidegate.domain.upload import Sent


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What the client says of the bytes to come. ``length`` is the body's framing (None:
    unknown), ``size`` what it announced (bytes); ``digests`` maps hashlib's names to hex."""

    length: int | None = None
    size: int | None = None
    digests: Mapping[str, str] = field(default_factory=dict)

    @property
    def total(self) -> int | None:
        """Bytes to come, as far as that was said."""
        return self.length if self.size is None else self.size


def with_declared(
    expected: Expected, image: Image, changed: Collection[str] = frozenset()
) -> Expected:
    """Add what an earlier API v1 call announced of the data, where it is not ``changed``."""
    digests = dict(expected.digests)
    if image.declared_checksum and "declared_checksum" not in changed:
        digests.setdefault("md5", image.declared_checksum.lower())
    announced = None if "declared_size" in changed else image.declared_size
    size = announced if expected.size is None else expected.size
    return Expected(length=expected.length, size=size, digests=digests)


def expected_of(image: Image, length: int | None) -> Expected:
    """What data that is said to be the image's must be like: as the image has it, or as was
    announced of it."""
    return with_declared(Expected(length=length, size=image.size, digests=digests_of(image)), image)


def digests_of(image: Image) -> dict[str, str]:
    """Those of its data that are known and can be compared, by their names in hashlib."""
    return {
        name: value
        for name, value in (("md5", image.checksum), (image.hash_algo, image.hash_value))
        if name is not None and value is not None and can_compute(name)
    }


def can_compute(algorithm: str) -> bool:
    """Whether its digests have one size, and hashlib knows it wherever Python runs."""
    known = algorithm in hashlib.algorithms_guaranteed
    return known and hashlib.new(algorithm, usedforsecurity=False).digest_size > 0


def verify(sent: Sent, expected: Expected) -> None:
    """SizeMismatch, DigestMismatch."""
    if expected.size is not None and sent.size != expected.size:
        raise SizeMismatch(expected.size, sent.size)
    for algorithm, announced in expected.digests.items():
        if sent.digests[algorithm] != announced:
            raise DigestMismatch(algorithm, announced, sent.digests[algorithm])
