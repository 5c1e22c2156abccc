"""What a client says of the digests of data that it registers."""

import hashlib
import re
from collections.abc import Mapping, Sequence

from tidegate.domain.errors import Conflict
from tidegate.domain.image import Image
from tidegate.domain.status import Status

_NAMES = {"checksum": "checksum", "hash_algo": "os_hash_algo", "hash_value": "os_hash_value"}
_HEX = re.compile("[0-9a-f]*")


def check_vouched(
    image: Image, values: Sequence[Mapping[str, object]], algorithm: str | None
) -> None:
    """Conflict: one of them is no digest, contradicts another one or the image, is by another
    ``algorithm`` (None: any), or is new to an image that has data already."""
    known: dict[str, object] = {}
    for value in values:
        named = {_NAMES[column]: given for column, given in value.items()}
        for name, given in named.items():
            if known.setdefault(name, given) != given:
                raise Conflict(f"Conflicting values for {name}")
    old = {name: getattr(image, column) for column, name in _NAMES.items()}
    new = [name for name in known if old[name] is None]
    if new and image.status is not Status.QUEUED:
        raise Conflict(
            f"New value(s) for {', '.join(new)} may only be provided when image status is 'queued'"
        )
    for name, given in known.items():
        if name not in new and given != old[name]:
            raise Conflict(f"{name} is already set with a different value")
    _check(known, algorithm)


def _check(known: Mapping[str, object], algorithm: str | None) -> None:
    given = str(known.get("os_hash_algo", algorithm))
    if algorithm is not None and given != algorithm:
        raise Conflict(f"os_hash_algo must be {algorithm}, not {given[:64]}")
    for name, kind in (("os_hash_value", given), ("checksum", "md5")):
        fault = digest_fault(name, kind, str(known[name])) if name in known else None
        if fault is not None:
            raise Conflict(fault)


def digest_fault(name: str, algorithm: str, value: str) -> str | None:
    """Why ``value`` (lower case) is no digest by this algorithm, in words; None: it is one."""
    if algorithm not in hashlib.algorithms_guaranteed:
        return f"os_hash_algo: {algorithm[:64]} is no digest that is known here"
    if not _HEX.fullmatch(value):
        return f"{name} ({value[:128]}) is not a valid hexadecimal value"
    size = hashlib.new(algorithm, usedforsecurity=False).digest_size
    if len(value) != 2 * size:
        return (
            f"{name} ({value[:128]}) is not the correct size for {algorithm} "
            f"(should be {size} bytes)"
        )
    return None
