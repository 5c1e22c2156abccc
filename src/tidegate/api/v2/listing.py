"""The query of a list of images: filters, order, pages."""

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from urllib.parse import urlencode

from multidict import MultiMapping

from tidegate.catalog.base import Condition, ImageQuery, Viewer
from tidegate.domain.errors import Invalid
from tidegate.domain.image import Visibility
from tidegate.domain.status import GONE

DEFAULT_LIMIT = 25
MAX_LIMIT = 1000
MAX_FILTERS = 50
MAX_IN = 100
SORT_KEYS = (
    "name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at",
)  # fmt: skip

_TEXT = frozenset({"name", "id", "status", "disk_format", "container_format"})
_TIMES = frozenset({"created_at", "updated_at"})
_NUMBERS = {
    "min_disk": 2**31 - 1,
    "min_ram": 2**31 - 1,
    "size": 2**63 - 1,
    "virtual_size": 2**63 - 1,
}
"""The largest there can be of each."""
_EQUAL = {"owner": "owner", "checksum": "checksum", "os_hash_algo": "hash_algo",
          "os_hash_value": "hash_value"}  # fmt: skip
_TIME_OPERATORS = frozenset({"eq", "neq", "gt", "gte", "lt", "lte"})
_NOT_FILTERS = frozenset({"limit", "marker", "sort", "sort_key", "sort_dir", "deleted"})
_NO_TEXT = re.compile("[\0\ufffd\ud800-\udfff]")
_NO_FILTERS = frozenset({"properties", "locations", "members"})
_MEMBER_STATUSES = ("pending", "accepted", "rejected", "all")


def parse(query: MultiMapping[str]) -> ImageQuery:
    """For the eyes of nobody yet: the viewer is set by the service. Invalid."""
    if len(query) > MAX_FILTERS:
        raise Invalid(f"A query may hold at most {MAX_FILTERS} parameters.")
    for text in (*query.keys(), *query.values()):
        if _NO_TEXT.search(text):
            raise Invalid("The query holds characters that could not be decoded.")
    given = {name: query.getall(name)[-1] for name in query}
    return ImageQuery(
        viewer=Viewer(),
        conditions=[*_conditions(given), *_tags(query.getall("tag", []))],
        visibility=_visibility(given.get("visibility")),
        member_status=_one_of("status", given.get("member_status", "accepted"), _MEMBER_STATUSES),
        hidden=_hidden(given.get("os_hidden", "false")),
        without=GONE,
        sort=_sort(query),
        limit=limit(given.get("limit")),
        marker=given.get("marker"),
    )


def link(path: str, query: MultiMapping[str], marker: str | None) -> str:
    """The same query, from ``marker`` on (None: from the start); all repetitions are kept."""
    items = [(name, value) for name, value in query.items() if name != "marker"]
    if marker is not None:
        items.append(("marker", marker))
    return f"{path}?{urlencode(items)}" if items else path


def limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", text.strip()):
        raise Invalid("limit param must be an integer")
    value = int(text)
    if value < 0:
        raise Invalid("limit param must be positive")
    return min(value, MAX_LIMIT)


def _visibility(text: str | None) -> str | None:
    if text is None:
        return None
    return _one_of("visibility value", text, (*(kind.value for kind in Visibility), "all", ""))


def _one_of(what: str, text: str, known: Iterable[str]) -> str:
    if text not in known:
        raise Invalid(f"Invalid {what}: {text}")
    return text


def _hidden(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise Invalid(
            f"Invalid value '{text}' for 'os_hidden' filter. Valid values are 'true' or 'false'."
        )
    return text.lower() == "true"


def _tags(values: list[str]) -> list[Condition]:
    return [Condition(column="tag", op="eq", value=value.strip()) for value in values]


def _sort(query: MultiMapping[str]) -> list[tuple[str, bool]]:
    new, keys = query.getall("sort", []), query.getall("sort_key", [])
    directions = query.getall("sort_dir", [])
    if new and (keys or directions):
        raise Invalid("Old and new sorting syntax cannot be combined")
    if new:
        pairs = [tuple(item.strip().partition(":")[::2]) for item in new[-1].split(",")]
        return _distinct((_key(key), _descending(way or "desc")) for key, way in pairs)
    keys = keys or ["created_at"]
    if len(directions) <= 1:
        # the tie-breakers follow the one direction
        keys = [*keys, *(name for name in ("created_at", "id") if name not in keys)]
        directions = (directions or ["desc"]) * len(keys)
    if len(directions) != len(keys):
        raise Invalid("Number of sort dirs does not match the number of sort keys")
    return _distinct(
        (_key(key), _descending(way)) for key, way in zip(keys, directions, strict=True)
    )


def _distinct(pairs: Iterable[tuple[str, bool]]) -> list[tuple[str, bool]]:
    """A key that comes again orders nothing, and would make the statement long."""
    found: dict[str, bool] = {}
    for key, descending in pairs:
        found.setdefault(key, descending)
    return list(found.items())


def _key(name: str) -> str:
    name = name.strip()
    if name not in SORT_KEYS:
        raise Invalid(
            f"Invalid sort key: {name}. It must be one of the following: {', '.join(SORT_KEYS)}."
        )
    return name


def _descending(direction: str) -> bool:
    direction = direction.strip()
    if direction not in ("asc", "desc"):
        raise Invalid(f"Invalid sort direction: {direction}")
    return direction == "desc"


def _conditions(given: dict[str, str]) -> list[Condition]:
    found: list[Condition] = []
    for name, value in given.items():
        if name in _NOT_FILTERS or name in ("visibility", "member_status", "os_hidden", "tag"):
            continue
        found.append(_condition(name, value))
    return found


def _condition(name: str, value: str) -> Condition:
    if name == "changes-since":
        raise Invalid('The "changes-since" filter is no longer available on v2.')
    if name in _TEXT:
        return _text(name, value)
    if name in _TIMES:
        return _time(name, value)
    if name == "protected":
        if value not in ("true", "false"):
            raise Invalid(
                f"Invalid value '{value}' for 'protected' filter. "
                "Valid values are 'true' or 'false'."
            )
        return Condition(column="protected", op="eq", value=value == "true")
    if name in _NO_FILTERS:
        raise Invalid(f"Unable to filter by '{name}'.")
    base, _, bound = name.rpartition("_")
    if bound in ("min", "max"):
        return _range(base, bound, value)
    if name in _NUMBERS:
        return Condition(column=name, op="eq", value=_or_nothing(value, _NUMBERS[name]))
    if name in _EQUAL:
        return Condition(column=_EQUAL[name], op="eq", value=value)
    return Condition(column=f"property:{name}", op="eq", value=value)


def _range(base: str, bound: str, value: str) -> Condition:
    if base not in _NUMBERS:
        raise Invalid(f"Unable to filter on a range of '{base}'.")
    if not re.fullmatch(r"[+-]?[0-9]{1,30}", value):
        raise Invalid("Unable to filter on a range with a non-numeric value.")
    # within what the column can hold, since databases refuse what is not
    number = max(-1, min(int(value), _NUMBERS[base]))
    return Condition(column=base, op="ge" if bound == "min" else "le", value=number)


def _or_nothing(value: str, largest: int) -> int:
    """A number; what is none, or larger than there can be, matches nothing."""
    number = int(value) if re.fullmatch(r"[0-9]{1,19}", value) else -1
    return number if number <= largest else -1


def _text(name: str, value: str) -> Condition:
    operator, colon, rest = value.partition(":")
    if not colon:
        return Condition(column=name, op="eq", value=value)
    match operator:
        case "eq":
            return Condition(column=name, op="eq", value=rest)
        case "in":
            return Condition(column=name, op="in", value=_split(rest))
        case _:
            raise Invalid(f"Unable to filter by unknown operator '{operator}'.")


def _time(name: str, value: str) -> Condition:
    operator, colon, rest = value.partition(":")
    if not colon or operator[:1].isdigit():
        operator, rest = "eq", value
    if operator not in _TIME_OPERATORS:
        raise Invalid("Unable to filter on a unknown operator.")
    try:
        moment = datetime.fromisoformat(rest)
    except ValueError:
        raise Invalid(
            f'Bad "{name}" query filter format. Use ISO 8601 DateTime notation.'
        ) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return _at_second(name, operator, moment)


def _at_second(name: str, op: str, moment: datetime) -> Condition:
    """Times are shown in whole seconds and kept in microseconds: compare what is shown."""
    begin = int(moment.timestamp()) * 1_000_000
    end = begin + 1_000_000
    match op:
        case "eq":
            return Condition(column=name, op="within", value=(begin, end))
        case "neq":
            return Condition(column=name, op="outside", value=(begin, end))
        case "gt" | "lte":
            return Condition(column=name, op="ge" if op == "gt" else "lt", value=end)
        case _:
            return Condition(column=name, op="ge" if op == "gte" else "lt", value=begin)


def _split(text: str) -> list[str]:
    """Values of ``in:``, separated by commas; one with a comma stands in double quotes."""
    found: list[str] = []
    rest = text
    while True:
        if rest.startswith('"'):
            end = _closing(rest, text)
            found.append(rest[1:end])
            rest = rest[end + 1 :]
            if rest and not rest.startswith(","):
                raise Invalid(
                    f"Invalid filter value {text}. There is no comma after closing quotation mark."
                )
        else:
            value, _, _ = rest.partition(",")
            if '"' in value:
                raise Invalid(
                    f"Invalid filter value {text}. There is no comma before opening quotation mark."
                )
            found.append(value)
            rest = rest[len(value) :]
        if not rest:
            break
        rest = rest[1:]
    if len(found) > MAX_IN:
        raise Invalid(f"A list may hold at most {MAX_IN} values.")
    return found


def _closing(text: str, whole: str) -> int:
    at = 1
    while at < len(text):
        if text[at] == '"':
            return at
        at += 2 if text[at] == "\\" else 1
    raise Invalid(f"Invalid filter value {whole}. The quote is not closed.")
