"""Files that hold a secret: they are their owner's alone, or are not read."""

import os
import stat
from pathlib import Path

_OTHERS = 0o077


class PrivateFileError(Exception):
    """The file cannot be used; one line, and nothing of what is in it."""


def read_private(path: Path) -> str:
    """Its text. PrivateFileError: it is not there, no file, not UTF-8, or open to others than its
    owner, who perhaps have read it already."""
    try:
        # a pipe would be waited for
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise PrivateFileError(f"{path} is not a file")
            if status.st_mode & _OTHERS:
                raise PrivateFileError(
                    f"{path} is open to others than its owner; run: chmod 600 {path}"
                )
            return file.read().decode("utf-8")
    except OSError as error:
        raise PrivateFileError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PrivateFileError(f"cannot read {path}: it is not UTF-8") from error


def is_open_to_others(path: Path) -> bool:
    """Whether others than its owner may do anything with it."""
    return bool(path.stat().st_mode & _OTHERS)
