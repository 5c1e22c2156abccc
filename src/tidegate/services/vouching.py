"""What a client says of the digests of data that it registers."""

import hashlib
import re
from collections.abc import Mapping, Sequence

from tidegate.domain.errors import Conflict
from tidegate.domain.image import Image
from tidegate.domain.status import Status

_NAMES = {"checksum": "checksum", "hash_algo": "os_hash_algo", "hash_value": "os_hash_value"}
_HEX = re.compile("[0-9a-f]*")


def check_vouched(image: Image, values: Sequence[Mapping[str, object]]) -> None:
    """Conflict: one of them is no digest, contradicts another one or the image, or is new to an
    image that has data already."""
    known: dict[str, object] = {
        column: getattr(image, column) for column in _NAMES if getattr(image, column) is not None
    }
    for value in values:
        _check_digest(value, "checksum", "md5")
        if "hash_algo" in value:
            _check_digest(value, "hash_value", str(value["hash_algo"]))
        for column, given in value.items():
            if column in known and known[column] != given:
                raise Conflict(f"{_NAMES[column]} is already set with a different value")
        new = [_NAMES[column] for column in value if column not in known]
        if new and image.status is not Status.QUEUED:
            raise Conflict(
                f"New value(s) for {', '.join(new)} may only be provided when image status is "
                "'queued'"
            )
        known |= value


def _check_digest(value: Mapping[str, object], column: str, algorithm: str) -> None:
    size = _size_of(algorithm)
    if size is None:
        raise Conflict(f"os_hash_algo: {algorithm[:64]} is no digest that is known here")
    given = value.get(column)
    if given is None:
        return
    if not _HEX.fullmatch(str(given)):
        raise Conflict(f"{_NAMES[column]} is not a valid hexadecimal value")
    if len(str(given)) != 2 * size:
        raise Conflict(
            f"{_NAMES[column]} is not the correct size for {algorithm} (should be {size} bytes)"
        )


def _size_of(algorithm: str) -> int | None:
    if algorithm not in hashlib.algorithms_guaranteed:
        return None
    return hashlib.new(algorithm, usedforsecurity=False).digest_size or None
