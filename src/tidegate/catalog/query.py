"""Listing images: who sees what, filters, and pages by key instead of by offset."""

import operator
from collections.abc import Callable, Iterable
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    Table,
    and_,
    exists,
    func,
    literal,
    or_,
    select,
    true,
)
from sqlalchemy.types import String

from tidegate.catalog import tables as t
from tidegate.catalog.base import Condition, ImageQuery
from tidegate.catalog.rows import image_query
from tidegate.catalog.tables import empty, sortable
from tidegate.domain.errors import Invalid
from tidegate.domain.image import Image, Visibility

_OPERATORS: dict[str, Callable[[Any, Any], ColumnElement[bool]]] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "gt": operator.gt,
    "ge": operator.ge,
    "lt": operator.lt,
    "le": operator.le,
    "in": lambda column, values: column.in_(list(values)),
    "within": lambda column, span: and_(column >= span[0], column < span[1]),
    "outside": lambda column, span: or_(column < span[0], column >= span[1]),
}


def image_page(query: ImageQuery, marker: Image | None) -> Select[Any]:
    """``marker`` is the image of ``query.marker``, which the viewer may see."""
    project = literal(query.viewer.project, String())
    statement = image_query(None if query.viewer.admin else project).where(
        t.images.c.status.not_in(sorted(query.without)), _seen(query, project)
    )
    if query.hidden is not None:
        statement = statement.where(t.images.c.hidden.is_(query.hidden))
    for condition in query.conditions:
        statement = statement.where(_holds(condition))
    keys = _keys(query)
    if marker is not None:
        statement = statement.where(after(t.images, keys, marker))
    # what changed since is little: to be sorted, and not found on a walk in order of the keys
    changed = any(one.column == "updated_at" and one.op == "gt" for one in query.conditions)
    for column, descending in keys:
        ordered = sortable(t.images.c[column])
        if changed and column == "created_at":
            ordered = func.coalesce(ordered, 0)
        statement = statement.order_by(ordered.desc() if descending else ordered.asc())
    return statement.limit(query.limit)


def _seen(query: ImageQuery, project: ColumnElement[Any]) -> ColumnElement[bool]:
    i, m = t.images.c, t.members.c
    base: ColumnElement[bool] = true()
    own: ColumnElement[bool] = i.owner == project
    if query.as_user and query.viewer.admin and query.viewer.project is None:
        own = i.owner.is_(None)
    if query.as_user or not query.viewer.admin:
        # by a list of ids, which are few; coalesce keeps the planner from walking all shared ones
        is_member = select(m.image_id).where(m.member == project, m.deleted_at.is_(None))
        if query.member_status != "all":
            is_member = is_member.where(m.status == query.member_status)
        base = or_(
            own,
            i.visibility.in_([Visibility.PUBLIC, Visibility.COMMUNITY]),
            and_(func.coalesce(i.visibility, "") == Visibility.SHARED, i.id.in_(is_member)),
        )
    match query.visibility:
        case None if query.viewer.admin and query.viewer.project is None and not query.as_user:
            return base
        case None:
            return and_(base, or_(i.visibility != Visibility.COMMUNITY, own))
        case "all":
            return base
        case visibility:
            return and_(base, i.visibility == visibility)


def _holds(condition: Condition) -> ColumnElement[bool]:
    compare = _OPERATORS[condition.op]
    kind, _, name = condition.column.partition(":")
    if kind == "property":
        return exists().where(
            t.properties.c.image_id == t.images.c.id,
            t.properties.c.name == name,
            compare(t.properties.c.value, condition.value),
        )
    if kind == "tag":
        return exists().where(
            t.tags.c.image_id == t.images.c.id, compare(t.tags.c.tag, condition.value)
        )
    if kind == "any_size":
        i = t.images.c
        return compare(func.coalesce(i.size, i.declared_size, 0), condition.value)
    return compare(t.images.c[condition.column], condition.value)


def _keys(query: ImageQuery) -> list[tuple[str, bool]]:
    keys = list(query.sort)
    # one direction given: the tie-breakers follow it
    descending = keys[0][1] if len(keys) == 1 else True
    for column in ("created_at", "id"):
        if column not in [name for name, _ in keys]:
            keys.append((column, descending))
    return keys


def after(table: Table, keys: Iterable[tuple[str, bool]], marker: object) -> ColumnElement[bool]:
    """Rows strictly behind the marker's, in the order of ``keys`` (column, descending)."""
    alternatives = []
    bounds: list[ColumnElement[bool]] = []
    equal: list[ColumnElement[bool]] = []
    for name, descending in keys:
        column, plain = sortable(table.c[name]), getattr(marker, name)
        value = literal(empty(table.c[name]) if plain is None else plain, table.c[name].type)
        bounds.append(column <= value if descending else column >= value)
        alternatives.append(and_(*equal, column < value if descending else column > value))
        equal.append(column == value)
    # the first one says nothing new, but where in an index to begin
    return and_(bounds[0], or_(*alternatives))


def unknown_marker(marker: str) -> Invalid:
    return Invalid(f"No image found with ID {marker}: the marker must be an image you may see.")
