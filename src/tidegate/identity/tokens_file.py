"""The file of static tokens. It holds their hashes: a token itself is shown once and kept nowhere.

A token is 256 random bits, so that its plain SHA-256 says nothing about it.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import tomllib
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from tidegate.private_files import PrivateFileError, read_private
from tidegate.settings import SettingsError

_HEAD = "# Written by `tidegate token`, which keeps the entries but no comments.\n"
_HEADING = re.compile(r"\s*\[\[\s*token\s*\]\]")
_LETTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_Name = Annotated[str, Field(min_length=1, max_length=255)]


class TokensFileError(SettingsError):
    """The file cannot be used; one line, which names no hash."""


class Token(BaseModel):
    """One entry. ``sha256`` is the hash of the token's text, in hex."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    sha256: str = Field(pattern=r"^[0-9a-fA-F]{64}$")
    user: _Name
    user_name: _Name | None = None
    project: _Name
    project_name: _Name | None = None
    roles: tuple[_Name, ...] = Field(min_length=1)
    expires: datetime | None = None

    @field_validator("user", "user_name", "project", "project_name", "roles")
    @classmethod
    def _printable(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        for text in (value,) if isinstance(value, str) else value or ():
            if not text.isprintable():
                raise ValueError("must be printable")
        return value

    @field_validator("expires")
    @classmethod
    def _zoned(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("must name its time zone, as in 2027-01-01T00:00:00Z")
        return value

    @property
    def digest(self) -> bytes:
        return bytes.fromhex(self.sha256)


def new_token() -> str:
    """``tg_``, 43 random letters, and 6 that follow from the others, by which a program can tell
    a token that leaked, or was typed wrongly."""
    text = f"tg_{secrets.token_urlsafe(32)}"
    number, letters = zlib.crc32(text.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, len(_LETTERS))
        letters = _LETTERS[digit] + letters
    return text + letters


def hash_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def read(path: Path) -> list[Token]:
    """TokensFileError: not there, not its owner's alone, or with a bad entry."""
    try:
        return _parse(path, read_private(path))
    except PrivateFileError as error:
        raise TokensFileError(str(error)) from error


@contextmanager
def changing(path: Path) -> Iterator[list[Token]]:
    """The entries, to be changed in place; at the end they are written, whole or not at all, by
    one at a time. TokensFileError: the file is as it was."""
    path = path.resolve()  # a link stays one
    try:
        with _locked(path.parent):
            tokens = read(path) if path.exists() else []
            yield tokens
            _replace(path, _HEAD + "".join(map(_text, tokens)))
    except OSError as error:
        raise TokensFileError(f"cannot write {path}: {error.strerror}") from error


def _parse(path: Path, text: str) -> list[Token]:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise TokensFileError(f"cannot read {path}: {error}") from error
    entries = tree.pop("token", [])
    if tree or not isinstance(entries, list):
        name = next(iter(tree), "token")
        raise TokensFileError(f"{path}: {name!r} is no entry; entries are written [[token]]")
    found: list[Token] = []
    for where, entry in zip(_places(path, text, entries), entries, strict=True):
        try:
            token = Token.model_validate(entry)
        except ValidationError as error:
            raise TokensFileError(f"{where}: {_explain(error)}") from error
        for other in found:
            if other.id == token.id:
                raise TokensFileError(f"{where}: the id {token.id} is used twice")
            if other.digest == token.digest:
                raise TokensFileError(f"{where}: it is the token of {other.id} once more")
        found.append(token)
    return found


def _places(path: Path, text: str, entries: Sequence[object]) -> list[str]:
    lines = [at for at, line in enumerate(text.splitlines(), 1) if _HEADING.match(line)]
    if len(lines) == len(entries):
        return [f"{path}, token at line {line}" for line in lines]
    return [f"{path}, token {number}" for number in range(1, len(entries) + 1)]


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(step) for step in first["loc"])
    if where == "sha256":
        return "sha256 must be 64 hexadecimal digits"
    said = first["msg"].removeprefix("Value error, ")
    return f"{where}: {said}" if where else said


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        with open(os.open(unfinished, flags, 0o600), "w", encoding="utf-8") as file:
            if path.exists():
                before, new = path.stat(), os.fstat(file.fileno())
                if (before.st_uid, before.st_gid) != (new.st_uid, new.st_gid):
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def _text(token: Token) -> str:
    lines = ["", "[[token]]"]
    for name, value in token:
        if isinstance(value, datetime):
            lines.append(f"{name} = {value.astimezone(UTC).isoformat().replace('+00:00', 'Z')}")
        elif value is not None:
            # without control characters, JSON is TOML
            lines.append(f"{name} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
