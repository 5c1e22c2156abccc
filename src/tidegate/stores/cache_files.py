"""The files of cached copies: the bytes, and behind them a trailer."""

import os
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

IMAGE = re.compile(r"[A-Za-z0-9-]{1,64}")
NAME = re.compile(rf"{IMAGE.pattern}\+[0-9a-f]{{32}}")
_MAGIC = b"tidecach"
_FIXED = struct.Struct("<8sQd")
USE = struct.Struct("<dQ")  # alone changes, and may be read while it does
USE_AT = _FIXED.size + 4
TRAILER = USE_AT + USE.size
OLD = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
CHANGE = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK


@dataclass(frozen=True, slots=True)
class Entry:
    """A whole copy. ``size`` is the image's; times are seconds since 1970."""

    name: str
    size: int
    made: float
    used: float
    hits: int

    @property
    def image_id(self) -> str:
        return image_of(self.name)


def image_of(name: str) -> str:
    """The id of the image of which a copy of this name is."""
    return name.partition("+")[0]


def same_file(fd: int, path: str) -> bool:
    """Whether the open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(fd), os.lstat(path))
    except FileNotFoundError:
        return False


def read(fd: int, name: str) -> Entry | None:
    """What the file's end says of it; None: it is damaged, by its size or its trailer. OSError."""
    found = os.fstat(fd)
    size = found.st_size - TRAILER
    if not stat.S_ISREG(found.st_mode) or size < 0:
        return None
    trailer = os.pread(fd, TRAILER, size)
    if len(trailer) < TRAILER:
        return None
    magic, said, made = _FIXED.unpack_from(trailer)
    used, hits = USE.unpack_from(trailer, USE_AT)
    sound = (magic, said) == (_MAGIC, size) and trailer[:USE_AT] == _fixed(size, made)
    return Entry(name, size, made, used, hits) if sound else None


def trailer(size: int, now: float) -> bytes:
    return _fixed(size, now) + USE.pack(now, 0)


def _fixed(size: int, made: float) -> bytes:
    fields = _FIXED.pack(_MAGIC, size, made)
    return fields + zlib.crc32(fields).to_bytes(4, "little")


@contextmanager
def opened(path: str, flags: int) -> Iterator[int]:
    fd = os.open(path, flags, 0o600)
    try:
        yield fd
    finally:
        os.close(fd)


def names(folder: str) -> list[str]:
    with suppress(FileNotFoundError):
        return [name for name in os.listdir(folder) if NAME.fullmatch(name)]
    return []


def sizes(folder: str) -> Iterator[int]:
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):
                yield entry.stat(follow_symlinks=False).st_size
