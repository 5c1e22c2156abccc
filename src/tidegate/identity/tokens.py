"""Callers by static tokens: auth mode ``tokens``."""

import asyncio
import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from multidict import MultiMapping

from tidegate.domain.errors import Unauthenticated
from tidegate.domain.policy import Caller
from tidegate.identity.base import Address, nowhere
from tidegate.identity.failures import FailedTokens
from tidegate.identity.tokens_file import Token, TokensFileError, read
from tidegate.telemetry import log

LOOK_EVERY = 1.0
"""Seconds between two looks at the file's time stamp."""

LONGEST = 8192
"""Letters of a token that is looked up at all."""

IMPLIED = {"admin": "manager", "manager": "member", "member": "reader"}
"""Which role brings which, from the top down, as in a new Keystone."""

# not Basic: a browser that is asked for it sends it along for the pages of other sites
_CHALLENGE = 'Bearer realm="tidegate"'


class _Known(NamedTuple):
    digest: bytes
    caller: Caller
    expires: float | None


_NOBODY = _Known(bytes(32), Caller(), None)


class Tokens:
    """Looks tokens up in memory. As a job it reads the file again when that has changed; one
    that cannot be used changes nothing."""

    name = "tokens"
    every = LOOK_EVERY

    def __init__(self, path: Path, failed: FailedTokens | None = None) -> None:
        self._path = path
        self._failed = failed or FailedTokens()
        self._known: Mapping[bytes, _Known] = {}
        self._stamp: object = None

    async def open(self) -> None:
        """TokensFileError."""
        self._stamp, self._known = await asyncio.to_thread(self._load)

    async def once(self) -> int:
        stamp = await asyncio.to_thread(_stamp, self._path)
        if stamp != self._stamp:
            try:
                self._stamp, self._known = await asyncio.to_thread(self._load)
            except TokensFileError as error:
                self._stamp = stamp
                log.error("tokens not read again", error=str(error))
            else:
                log.info("tokens read again", count=len(self._known))
        return 0

    async def caller(
        self,
        headers: MultiMapping[str],
        method: str = "",
        path: str = "",
        address: Address = nowhere,
    ) -> Caller:
        digest = hashlib.sha256(_given(headers)).digest()
        known = self._known.get(digest, _NOBODY)
        right = hmac.compare_digest(digest, known.digest)
        if not right or (known.expires is not None and known.expires <= time.time()):
            self._failed.take(address())
            raise _refused()
        return known.caller

    def _load(self) -> tuple[object, Mapping[bytes, _Known]]:
        stamp = _stamp(self._path)  # before: what changes meanwhile is seen by the next look
        return stamp, {token.digest: _known(token) for token in read(self._path)}


def expand(roles: Iterable[str]) -> frozenset[str]:
    """In lower case, with the roles that they imply."""
    found = {role.lower() for role in roles}
    for role, implied in IMPLIED.items():
        if role in found:
            found.add(implied)
    return frozenset(found)


def _known(token: Token) -> _Known:
    roles = expand(token.roles)
    caller = Caller(project=token.project, roles=roles, user=token.user, token=token.id)
    expires = None if token.expires is None else token.expires.timestamp()
    return _Known(token.digest, caller, expires)


def _stamp(path: Path) -> object:
    """Another one after each change of the file."""
    try:
        found = path.stat()
    except OSError as error:
        return error.errno
    return found.st_mtime_ns, found.st_size, found.st_ino, found.st_mode


def _refused() -> Unauthenticated:
    return Unauthenticated("The request you have made requires authentication.", _CHALLENGE)


def _given(headers: MultiMapping[str]) -> bytes:
    """The one token in these headers. Unauthenticated."""
    tokens = headers.getall("X-Auth-Token", [])
    text = tokens[0].strip() if tokens else _authorized(headers)
    # of two, something before us may have checked the other one
    if len(tokens) > 1 or not text.isascii() or not 0 < len(text) <= LONGEST:
        raise _refused()
    return text.encode()


def _authorized(headers: MultiMapping[str]) -> str:
    """By ``Bearer``, or as the password of ``Basic``, whatever the user's name; else empty."""
    given = headers.getall("Authorization", [])
    scheme, _, value = given[0].strip().partition(" ") if len(given) == 1 else ("", "", "")
    match scheme.lower():
        case "bearer":
            return value.strip()
        # a browser keeps a password, and sends it along for the pages of other sites
        case "basic" if "Origin" not in headers:
            try:
                text = base64.b64decode(value.strip(), validate=True).decode("ascii")
            except (binascii.Error, ValueError):
                return ""
            return text.partition(":")[2]
        case _:
            return ""
