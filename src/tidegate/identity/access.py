"""The access rules of an application credential: the requests that it is good for."""

import re
from collections.abc import Sequence
from typing import NamedTuple

MOST_RULES = 100
"""A credential with more is good for nothing: its owner chooses them, and each is tried."""

LONGEST_PATH = 512
"""Letters of a path that a rule can allow."""

_PIECES = re.compile(r"\*\*|\*|\{[^}]*\}|[^*{]+|\{")


class AccessRule(NamedTuple):
    service: str
    method: str
    path: str


def allowed(rules: Sequence[AccessRule], service: str, method: str, path: str) -> bool:
    if len(rules) > MOST_RULES or len(path) > LONGEST_PATH:
        return False
    return any(
        rule.service == service and rule.method == method and matches(rule.path, path)
        for rule in rules
    )


def matches(pattern: str, path: str) -> bool:
    """``*`` and ``{name}`` stand for one segment, ``**`` for anything."""
    # all the places that can be reached, not one after another: no pattern takes long
    reached = {0}
    for piece in _PIECES.findall(pattern):
        if piece == "**":
            reached = set(range(min(reached), len(path) + 1))
        elif piece == "*" or (piece.startswith("{") and piece.endswith("}")):
            reached = _within_segment(path, reached)
        else:
            reached = {at + len(piece) for at in reached if path.startswith(piece, at)}
        if not reached:
            return False
    return len(path) in reached


def _within_segment(path: str, reached: set[int]) -> set[int]:
    found: set[int] = set()
    for at, letter in enumerate(path):
        if letter != "/" and (at in reached or at in found):
            found.add(at + 1)
    return found
