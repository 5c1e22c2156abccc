"""What a project holds, counted."""

from typing import Any

from sqlalchemy import Select, and_, case, exists, func, or_, select

from tidegate.catalog import tables as t
from tidegate.domain.status import GONE, Status

_COMING = (Status.SAVING, Status.UPLOADING, Status.IMPORTING)
_STAGED = (Status.UPLOADING, Status.IMPORTING)
_COPYING = "os_glance_importing_to_stores"


def held_by(project: str | None) -> Select[Any]:
    """One row, with the fields of ``Usage``."""
    i, p, c = t.images.c, t.properties.c, t.locations.c
    places = select(func.count()).where(c.image_id == i.id).correlate(t.images).scalar_subquery()
    copied = exists().where(p.image_id == i.id, p.name == _COPYING, p.value != "")
    size = func.coalesce(i.size, 0)
    coming = or_(i.status.in_([one.value for one in _COMING]), copied)
    staged = or_(i.status.in_([one.value for one in _STAGED]), copied)
    return select(
        func.coalesce(func.sum(size * places), 0).label("stored"),
        func.coalesce(func.sum(case((staged, size), else_=0)), 0).label("staged"),
        func.count().label("images"),
        func.coalesce(func.sum(case((coming, 1), else_=0)), 0).label("uploading"),
    ).where(
        and_(
            i.owner.is_(None) if project is None else i.owner == project,
            i.status.not_in([one.value for one in (*GONE, Status.KILLED)]),
        )
    )
