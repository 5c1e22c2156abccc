"""Rows to values and back, the one query that reads a whole image, and what its row copies."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Select,
    String,
    and_,
    bindparam,
    exists,
    func,
    null,
    or_,
    select,
    true,
)

from tidegate.catalog import tables as t
from tidegate.catalog.engine import Clock, from_json, json_array, json_object, json_tuple
from tidegate.domain.image import Image, Location, Visibility
from tidegate.domain.status import GONE, Status
from tidegate.domain.upload import Failure, Purpose, Removal, Sent, Upload, UploadState

_STATUS = {status.value: status for status in Status}
_VISIBILITY = {visibility.value: visibility for visibility in Visibility}

_COLUMNS = tuple(t.images.c.keys())
_AT = {name: index for index, name in enumerate(_COLUMNS)}
_COPIED = ("properties", "tags", "locations")
_PROPERTIES, _TAGS, _LOCATIONS = (_AT[name] for name in _COPIED)
_PLAIN = tuple(
    name for name in _COLUMNS if name not in ("status", "visibility", "crc64nvme", *_COPIED)
)
_STATUS_AT, _VISIBILITY_AT, _CRC_AT = (_AT[n] for n in ("status", "visibility", "crc64nvme"))
_FLAGS_AT = tuple(_AT[name] for name in ("protected", "hidden", "was_active"))
assert Image._fields == (*_COLUMNS, "member_status")


def now() -> int:
    """Microseconds since 1970, for the record; nothing is ever decided by them."""
    return time.time_ns() // 1000


def moment(clock: Clock) -> dict[str, Any]:
    """The columns of a step of a deletion that is taken now."""
    return {"at": now(), "clock": clock.name, "tick": clock.now()}


def image_query(project: ColumnElement[Any] | None) -> Select[Any]:
    """All of an image: its columns, then the membership status of ``project`` (None: of nobody,
    for those who see every image anyway)."""
    status = null() if project is None else membership(project)
    return select(t.images, status.label("member_status"))


def copies() -> dict[str, ColumnElement[Any]]:
    """The values of the columns of ``images`` that copy other tables; None for nothing."""
    i = t.images.c
    p, g = t.properties.c, t.tags.c
    ordered = (
        select(t.locations)
        .where(t.locations.c.image_id == i.id)
        .order_by(t.locations.c.position)
        .correlate(t.images)
        .subquery()
    )
    location = json_tuple(ordered.c.store, ordered.c.key, ordered.c.own, ordered.c.metadata)
    properties = select(json_object(p.name, p.value)).where(p.image_id == i.id)
    return {
        "properties": func.nullif(properties.scalar_subquery(), "{}"),
        "tags": func.nullif(
            select(json_array(g.tag)).where(g.image_id == i.id).scalar_subquery(), "[]"
        ),
        "locations": func.nullif(select(json_array(location)).scalar_subquery(), "[]"),
    }


def membership(project: ColumnElement[Any]) -> ColumnElement[Any]:
    m = t.members.c
    return (
        select(m.status)
        .where(m.image_id == t.images.c.id, m.member == project, m.deleted_at.is_(None))
        .scalar_subquery()
    )


def visible_to(project: ColumnElement[Any], *, admin: bool) -> ColumnElement[bool]:
    """Who may see an image that they name by its id."""
    if admin:
        return true()
    i, m = t.images.c, t.members.c
    is_member = exists().where(m.image_id == i.id, m.member == project, m.deleted_at.is_(None))
    return or_(
        i.owner == project,
        i.owner.is_(None),
        i.visibility.in_(_literal((Visibility.PUBLIC, Visibility.COMMUNITY))),
        and_(i.visibility.in_(_literal((Visibility.SHARED,))), is_member),
    )


def one_image(*, admin: bool, gone: bool = False) -> Select[Any]:
    """Parameters: ``id`` and ``project``; ``gone``: of any status."""
    project: ColumnElement[Any] = bindparam("project", None, String())
    return image_query(None if admin else project).where(
        t.images.c.id == bindparam("id", None, String()),
        true() if gone else t.images.c.status.not_in(_literal(GONE)),
        visible_to(project, admin=admin),
    )


def _literal(values: Iterable[str]) -> ColumnElement[Any]:
    """Written into the statement itself, where each execution would bind them again."""
    return bindparam(None, sorted(map(str, values)), expanding=True, literal_execute=True)


def image_of(row: Any) -> Image:
    """A row of ``image_query``, or of ``images`` alone."""
    values = list(row)
    values[_STATUS_AT] = _STATUS[values[_STATUS_AT]]
    values[_VISIBILITY_AT] = _VISIBILITY[values[_VISIBILITY_AT]]
    for at in _FLAGS_AT:
        values[at] = bool(values[at])
    if values[_CRC_AT] is not None:
        values[_CRC_AT] = int(values[_CRC_AT])
    properties, tags, locations = values[_PROPERTIES], values[_TAGS], values[_LOCATIONS]
    values[_PROPERTIES] = {} if properties is None else from_json(properties)
    values[_TAGS] = () if tags is None else tuple(sorted(from_json(tags)))
    values[_LOCATIONS] = () if locations is None else tuple(map(_location, from_json(locations)))
    return Image(*values)


def _location(item: list[Any]) -> Location:
    store, key, own, metadata = item
    return Location(store, key, from_json(metadata), own=bool(own))


def image_values(image: Image) -> dict[str, Any]:
    """The row of a new image."""
    values: dict[str, Any] = {name: getattr(image, name) for name in _PLAIN}
    values["status"] = image.status.value
    values["visibility"] = image.visibility.value
    values["crc64nvme"] = None if image.crc64nvme is None else str(image.crc64nvme)
    return values


def upload_of(row: Mapping[str, Any]) -> Upload:
    sent = None
    if row["sent_size"] is not None:
        crc = row["sent_crc64nvme"]
        sent = Sent(
            row["sent_size"],
            row["sent_digests"],
            None if crc is None else int(crc),
            row["sent_parts"],
            row["sent_virtual_size"],
            row["sent_disk_format"],
        )
    failure = None
    if row["failure_reason"] is not None:
        failure = Failure(
            row["failure_reason"],
            row["failure_where"],
            row["failure_message"],
            row["failure_request_id"],
        )
    return Upload(
        id=row["id"],
        image_id=row["image_id"],
        store=row["store"],
        key=row["key"],
        purpose=Purpose(row["purpose"] or Purpose.FILL),
        task_id=row["task_id"],
        state=UploadState(row["state"]),
        upload_id=row["upload_id"],
        node=row["node"],
        expected_size=row["expected_size"],
        received=row["received"],
        sent=sent,
        failure=failure,
        started_at=row["started_at"],
        updated_at=row["updated_at"],
        ended_at=row["ended_at"],
    )


def removal_of(row: Mapping[str, Any]) -> Removal:
    return Removal(row["id"], row["store"], row["key"], row["upload_id"], row["attempts"])
