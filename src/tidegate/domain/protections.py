"""Property protections: who may create, read, update and delete an image's further properties.

Sections of rights, each for the names in which its regular expression is found; the first one
counts, and what none is about is refused to everybody.
"""

import configparser
import re
from collections.abc import Mapping
from typing import NamedTuple, Protocol

OPERATIONS = ("create", "read", "update", "delete")
_OWN = "os_glance"


class ProtectionError(Exception):
    """A text that says nothing clear of protections; one line."""


class _Roles(Protocol):
    """A caller, as it is judged here."""

    @property
    def roles(self) -> frozenset[str]: ...

    @property
    def service_roles(self) -> frozenset[str]: ...


class _Section(NamedTuple):
    """Roles by operation; None: everybody."""

    names: re.Pattern[str]
    rights: Mapping[str, frozenset[str] | None]


class Protections:
    def __init__(self, text: str) -> None:
        """ProtectionError."""
        self._sections = tuple(_sections(text))

    def allows(self, caller: _Roles, operation: str, name: str) -> bool:
        if name.startswith(_OWN):  # which no caller can write, nor is shown
            return True
        for section in self._sections:
            if section.names.search(name):
                roles = section.rights[operation]
                if roles is None:
                    return True
                return not (
                    roles.isdisjoint(caller.roles) and roles.isdisjoint(caller.service_roles)
                )
        return False


def _sections(text: str) -> list[_Section]:
    parser = configparser.RawConfigParser(
        default_section="",
        delimiters=("=",),
        comment_prefixes=("#", ";"),
        empty_lines_in_values=False,
    )
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ProtectionError(" ".join(error.message.split())) from error
    return [_section(name, dict(parser.items(name))) for name in parser.sections()]


def _section(name: str, given: Mapping[str, str]) -> _Section:
    try:
        names = re.compile(name)
    except re.error as error:
        raise ProtectionError(f"[{name}] is no regular expression: {error}") from error
    unknown = sorted(given.keys() - set(OPERATIONS))
    missing = [operation for operation in OPERATIONS if operation not in given]
    if unknown or missing:
        what = f"{unknown[0]!r} is no operation" if unknown else f"{missing[0]!r} is missing"
        raise ProtectionError(f"[{name}]: {what}")
    return _Section(names, {operation: _roles(name, given[operation]) for operation in OPERATIONS})


def _roles(section: str, value: str) -> frozenset[str] | None:
    """``@`` is everybody, ``!`` or nothing is nobody."""
    words = {word.strip().lower() for word in value.split(",")} - {""}
    if words & {"@", "!"} and len(words) > 1:
        raise ProtectionError(f"[{section}]: '@' and '!' stand alone")
    return None if words == {"@"} else frozenset(words - {"!"})
