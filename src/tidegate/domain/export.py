"""Where an image is exported to: a key in a folder of a store, or a URL that takes a PUT; and what
of an operator's settings allows it."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from tidegate.domain.errors import Forbidden, Invalid
from tidegate.domain.upload import Sent

KEY_PIECE = re.compile(r"(?=.{1,64}$)[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
"""Of a key: what every store takes, and what a file's name with its ending is."""

_URL = re.compile(
    r"(https?)://([a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?(/[^/].*|/)",
    re.IGNORECASE | re.ASCII | re.DOTALL,
)
_STEP = re.compile(r"[A-Za-z0-9._~+@=,-]+")
_PORTS = {"http": 80, "https": 443}
_MAX_URL = 2048
_OFF = "Exports are switched off: whoever runs this server sets export.stores or export.urls."


@dataclass(frozen=True, slots=True)
class StoreTarget:
    """``key`` is ``folder/name``."""

    store: str
    key: str

    @property
    def folder(self) -> str:
        return self.key.partition("/")[0]


@dataclass(frozen=True, slots=True)
class UrlTarget:
    """As one would write it: ``host`` and ``scheme`` in lower case, ``port`` said or not, and a
    ``path`` without anything that two servers may read differently."""

    scheme: str
    host: str
    port: int
    path: str

    @property
    def url(self) -> str:
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.path}"

    def is_below(self, prefix: "UrlTarget") -> bool:
        same = (self.scheme, self.host, self.port) == (prefix.scheme, prefix.host, prefix.port)
        return same and self.path.startswith(prefix.path) and self.path != prefix.path


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """An object that a task is bringing under a key of a store. ``upload_id`` is the store's, once
    it was begun; ``sent`` what was verified, once the object is being completed."""

    store: str
    key: str
    task_id: str
    upload_id: str | None = None
    sent: Sent | None = None


def target_of(given: Mapping[str, object]) -> StoreTarget | UrlTarget:
    """What the input of a task asks for. Invalid: it says what is wrong."""
    left = set(given) - {"image_id", "store", "key", "url"}
    if left:
        raise Invalid(f"Input does not know {', '.join(sorted(left))[:80]}.")
    if "url" in given:
        if "store" in given or "key" in given:
            raise Invalid("Input names a 'store' and 'key' or a 'url' to export to, not both.")
        return parse_url(given["url"])
    for name in ("store", "key"):
        if not isinstance(given.get(name), str) or not given[name]:
            raise Invalid(f"Input does not contain '{name}': name a 'store' and 'key', or a 'url'.")
    key = str(given["key"])
    pieces = key.split("/")
    if len(pieces) != 2 or not all(map(KEY_PIECE.fullmatch, pieces)):
        raise Invalid(
            "Input's 'key' must be <folder>/<name>: each of 1 to 64 letters, digits, '_', '-', "
            "and single dots within."
        )
    return StoreTarget(str(given["store"]), key)


def parse_url(text: object) -> UrlTarget:
    """Invalid: it says what is wrong, and repeats nothing of it."""
    found = _URL.fullmatch(text) if isinstance(text, str) and len(text) <= _MAX_URL else None
    if found is None:
        raise Invalid(
            "Input's 'url' must be http:// or https://, a host, perhaps a port, and a path; "
            "no user, and at most 2048 characters."
        )
    scheme, path = found[1].lower(), found[4]
    port = _PORTS[scheme] if found[3] is None else int(found[3])
    steps = path[1:].removesuffix("/").split("/") if path != "/" else []
    if not 0 < port < 65536 or any(
        _STEP.fullmatch(step) is None or not step.strip(".") for step in steps
    ):
        raise Invalid(
            "Input's 'url' may have a path of letters, digits and ._~+@=,- alone: no query, no "
            "fragment, no percent sign, no empty step and none of dots."
        )
    return UrlTarget(scheme, found[2].lower(), port, path)


def check_allowed(
    target: StoreTarget | UrlTarget, *, stores: Collection[str], urls: Collection[str]
) -> None:
    """``stores`` are ``"<store id>/<folder>"``, ``urls`` what a URL must begin with. Forbidden:
    it names the rule, not what it allows."""
    if not stores and not urls:
        raise Forbidden(_OFF)
    if isinstance(target, StoreTarget):
        if f"{target.store}/{target.folder}" not in stores:
            raise Forbidden("The store and folder are none that export.stores allows.")
    elif target.path.endswith("/") or not any(target.is_below(parse_url(one)) for one in urls):
        raise Forbidden("The URL is below none that export.urls allows.")
