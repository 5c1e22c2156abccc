"""The query of API v1's lists: filters, order, pages."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from multidict import MultiMapping

from tidegate.api.v2.listing import MAX_FILTERS, SORT_KEYS, limit
from tidegate.catalog.base import Condition, ImageQuery, Viewer
from tidegate.domain.errors import Invalid
from tidegate.domain.image import Visibility
from tidegate.domain.status import GONE, Status

_EXACT = frozenset({"name", "status", "container_format", "disk_format"})
_UNSEEN = GONE | {Status.KILLED}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_PROPERTY = "property-"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
_LARGEST = 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NOTHING = Condition(column="id", op="in", value=())


def parse(query: MultiMapping[str], *, admin: bool) -> ImageQuery:
    """For the eyes of nobody yet: the viewer is set by the service. What is no filter of v1 is
    not heeded. Invalid."""
    if len(query) > MAX_FILTERS:
        raise Invalid(f"A query may hold at most {MAX_FILTERS} parameters.")
    for value in query.values():
        if "\ufffd" in value or any("\ud800" <= char <= "\udfff" for char in value):
            raise Invalid("The query holds characters that could not be decoded.")
    conditions = [
        _FILTERS[name](value) if name in _FILTERS else _exact(name, value)
        for name, value in query.items()
        if name in _FILTERS or name in _EXACT or name.startswith(_PROPERTY)
    ]
    given = {name: query.getall(name)[-1] for name in query}
    public = _is_public(given.get("is_public"))
    if admin and public is False:
        conditions.append(Condition(column="visibility", op="ne", value=Visibility.PUBLIC.value))
    return ImageQuery(
        viewer=Viewer(),
        as_user=public is True,
        conditions=conditions,
        member_status="all",
        without=frozenset() if "changes-since" in given else _UNSEEN,
        sort=[_sort(given.get("sort_key", "created_at"), given.get("sort_dir", "desc"))],
        limit=limit(given.get("limit")),
        marker=_marker(given.get("marker")),
    )


def _exact(name: str, value: str) -> Condition:
    if not name.startswith(_PROPERTY):
        return Condition(column=name, op="eq", value=value)
    name = name.removeprefix(_PROPERTY)
    if name.startswith("os_glance"):  # shown to nobody, so nobody can ask for it
        return _NOTHING
    return Condition(column=f"property:{name}", op="eq", value=value)


def _bound(name: str, column: str, op: str) -> Callable[[str], Condition]:
    def condition(value: str) -> Condition:
        if not re.fullmatch(r"[0-9]{1,19}", value, re.ASCII) or int(value) > _LARGEST:
            raise Invalid(f"Bad value passed to filter {name} got {value[:40]}")
        return Condition(column=column, op=op, value=int(value))

    return condition


def _min_disk(value: str) -> Condition:
    """What is no number matches nothing."""
    if not re.fullmatch(r"[0-9]{1,18}", value, re.ASCII):
        return _NOTHING
    return Condition(column="min_disk", op="eq", value=int(value))


def _protected(value: str) -> Condition:
    truth = _TRUTH.get(value.lower())
    if truth is None:
        raise Invalid("protected must be True, or False")
    return Condition(column="protected", op="eq", value=truth)


def _changes_since(value: str) -> Condition:
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        since = (moment - _EPOCH) // timedelta(microseconds=1)
    except (ValueError, OverflowError):
        raise Invalid("Unrecognized changes-since value") from None
    return Condition(column="updated_at", op="gt", value=since)


_FILTERS: dict[str, Callable[[str], Condition]] = {
    "size_min": _bound("size_min", "any_size", "ge"),
    "size_max": _bound("size_max", "any_size", "le"),
    "min_ram": _bound("min_ram", "min_ram", "eq"),
    "min_disk": _min_disk,
    "protected": _protected,
    "changes-since": _changes_since,
}


def _is_public(text: str | None) -> bool | None:
    """None: public or not."""
    if text is None:
        return True
    if text.lower() == "none":
        return None
    truth = _TRUTH.get(text.lower())
    if truth is None:
        raise Invalid("is_public must be None, True, or False")
    return truth


def _sort(key: str, direction: str) -> tuple[str, bool]:
    if key not in SORT_KEYS:
        raise Invalid(f"Unsupported sort_key. Acceptable values: {', '.join(SORT_KEYS)}")
    if direction not in ("asc", "desc"):
        raise Invalid("Unsupported sort_dir. Acceptable values: asc, desc")
    return key, direction == "desc"


def _marker(text: str | None) -> str | None:
    if text is not None and not _UUID.fullmatch(text):
        raise Invalid("Invalid marker format")
    return text
