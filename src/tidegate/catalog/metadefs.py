"""Statements about metadata definitions.

Whatever changes what a namespace holds first holds the namespace's row, so that such changes come
one after another; names are compared then, before anything is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Select, Table, and_, delete, insert, or_, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from tidegate.catalog import tables as t
from tidegate.catalog.base import Viewer
from tidegate.catalog.contract.metadefs import DefinitionQuery, NamespaceQuery
from tidegate.catalog.engine import Database
from tidegate.catalog.query import after
from tidegate.catalog.rows import now
from tidegate.domain.errors import Conflict, Forbidden, NotFound
from tidegate.domain.image import Visibility
from tidegate.domain.metadef import Contents, Definition, Kind, Loading, Namespace

_n, _d, _r = t.namespaces.c, t.definitions.c, t.resource_types.c
_AT_ONCE = 500  # a statement has room for so many values, on every engine
_FIELDS = ("name", "display_name", "description", "protected", "owner")


class SqlMetadefs:
    """See ``catalog.contract.metadefs.Metadefs``."""

    _database: Database

    # namespaces

    async def create_namespace(self, namespace: Namespace, contents: Contents) -> Namespace:
        async with self._database.transaction() as connection:
            if await _id_of(connection, namespace.name) is not None:
                raise _namespace_taken(namespace.name)
            return await _create(connection, namespace, contents)

    async def get_namespace(self, name: str, viewer: Viewer) -> Namespace:
        found = await self._find(name, _seen(viewer))
        if found is None:
            raise _no_such_namespace(name)
        return found

    async def list_namespaces(self, query: NamespaceQuery) -> list[Namespace]:
        marker = None
        if query.marker is not None:
            marker = await self._find(query.marker, _seen(query.viewer))
            if marker is None:
                if await self._find(query.marker, true()) is None:
                    raise _no_such_namespace(query.marker)
                raise Forbidden(f"The marker {query.marker} is no namespace of yours.")
        statement = _page(_wanted(query), t.namespaces, query, marker)
        return [_namespace_of(row) for row in await self._database.rows(statement)]

    async def change_namespace(self, namespace: Namespace) -> Namespace:
        async with self._database.transaction() as connection:
            await _hold(connection, namespace)
            taken = await _id_of(connection, namespace.name)
            if taken not in (None, namespace.id):
                raise _namespace_taken(namespace.name)
            return await _change(connection, namespace)

    async def delete_namespace(self, namespace: Namespace) -> None:
        async with self._database.transaction() as connection:
            await _hold_unprotected(connection, namespace)
            await _delete(connection, namespace.id)

    async def load_namespace(
        self, namespace: Namespace, contents: Contents, loading: Loading
    ) -> Loading | None:
        async with self._database.transaction() as connection:
            there = await _id_of(connection, namespace.name)
            if there is None:
                await _create(connection, namespace, contents)
                return None
            found = replace(namespace, id=there)
            await _hold(connection, found)
            match loading:
                case Loading.REPLACE:
                    await _delete(connection, there)
                    await _create(connection, namespace, contents)
                case Loading.UPDATE:
                    await _change(connection, found)
                    await _put(connection, there, contents, update_present=True)
                case Loading.ADD:
                    await _put(connection, there, contents, update_present=False)
                case Loading.KEEP:
                    pass
            return loading

    # what they hold

    async def resource_types(self) -> list[Definition]:
        rows = await self._database.rows(select(t.resource_types).order_by(_r.name))
        return [
            Definition(name=row["name"], created_at=row["created_at"], updated_at=row["created_at"])
            for row in rows
        ]

    async def associations_of(
        self, namespaces: Sequence[Namespace]
    ) -> Mapping[int, list[Definition]]:
        found: dict[int, list[Definition]] = {namespace.id: [] for namespace in namespaces}
        held = _d.namespace_id.in_(list(found))
        statement = select(t.definitions).where(held, _d.kind == Kind.ASSOCIATION.value)
        for row in await self._database.rows(statement.order_by(_d.id)):
            found[row["namespace_id"]].append(_definition_of(row))
        return found

    async def contents_of(self, namespace: Namespace) -> dict[Kind, list[Definition]]:
        found: dict[Kind, list[Definition]] = {kind: [] for kind in Kind}
        statement = select(t.definitions).where(_d.namespace_id == namespace.id).order_by(_d.id)
        for row in await self._database.rows(statement):
            found[Kind(row["kind"])].append(_definition_of(row))
        return found

    async def list_definitions(
        self, namespace: Namespace, kind: Kind, query: DefinitionQuery
    ) -> list[Definition]:
        marker = None
        if query.marker is not None:
            marker = await self.get_definition(namespace, kind, query.marker)
        all_of_it = select(t.definitions).where(_in(namespace.id, kind))
        statement = _page(all_of_it, t.definitions, query, marker)
        return [_definition_of(row) for row in await self._database.rows(statement)]

    async def get_definition(self, namespace: Namespace, kind: Kind, name: str) -> Definition:
        statement = select(t.definitions).where(_in(namespace.id, kind), _d.name == name)
        for row in await self._database.rows(statement):
            return _definition_of(row)
        raise _no_such_definition(namespace, kind, name)

    async def add_definitions(
        self,
        namespace: Namespace,
        kind: Kind,
        definitions: Sequence[Definition],
        *,
        instead: bool = False,
    ) -> list[Definition]:
        async with self._database.transaction() as connection:
            await _hold(connection, namespace)
            if instead:
                await connection.execute(delete(t.definitions).where(_in(namespace.id, kind)))
            return await _add(connection, namespace.id, kind, definitions)

    async def change_definition(
        self, namespace: Namespace, kind: Kind, name: str, definition: Definition
    ) -> Definition:
        async with self._database.transaction() as connection:
            await _hold(connection, namespace)
            there = await _there(connection, namespace.id, kind, [name, definition.name])
            if name not in there:
                raise _no_such_definition(namespace, kind, name)
            if definition.name != name and definition.name in there:
                raise _definition_taken(kind, definition.name)
            changed = await connection.execute(
                update(t.definitions)
                .where(_in(namespace.id, kind), _d.name == name)
                .values(name=definition.name, content=dict(definition.content), updated_at=now())
                .returning(t.definitions)
            )
            return _definition_of(changed.mappings().one())

    async def drop_definition(self, namespace: Namespace, kind: Kind, name: str) -> None:
        async with self._database.transaction() as connection:
            protected = await _hold(connection, namespace)
            if not await _there(connection, namespace.id, kind, [name]):
                raise _no_such_definition(namespace, kind, name)
            if protected:
                raise _protected(namespace)
            await connection.execute(
                delete(t.definitions).where(_in(namespace.id, kind), _d.name == name)
            )

    async def drop_definitions(self, namespace: Namespace, kind: Kind) -> None:
        async with self._database.transaction() as connection:
            await _hold_unprotected(connection, namespace)
            await connection.execute(delete(t.definitions).where(_in(namespace.id, kind)))

    async def _find(self, name: str, seen: ColumnElement[bool]) -> Namespace | None:
        statement = select(t.namespaces).where(_n.name == name, seen)
        for row in await self._database.rows(statement):
            return _namespace_of(row)
        return None


async def _hold(connection: AsyncConnection, namespace: Namespace) -> bool:
    """Keep other changes of it away until the transaction ends; whether it is protected."""
    protected = await connection.scalar(
        update(t.namespaces)
        .where(_n.id == namespace.id)
        .values(updated_at=_n.updated_at)
        .returning(_n.protected)
    )
    if protected is None:
        raise _no_such_namespace(namespace.name)
    return bool(protected)


async def _hold_unprotected(connection: AsyncConnection, namespace: Namespace) -> None:
    if await _hold(connection, namespace):
        raise _protected(namespace)


async def _id_of(connection: AsyncConnection, name: str) -> int | None:
    return await connection.scalar(select(_n.id).where(_n.name == name))


async def _create(
    connection: AsyncConnection, namespace: Namespace, contents: Contents
) -> Namespace:
    moment = now()
    made = await connection.execute(
        insert(t.namespaces)
        .values(created_at=moment, updated_at=moment, **_values(namespace))
        .returning(t.namespaces)
    )
    created = _namespace_of(made.mappings().one())
    for kind, definitions in contents.items():
        await _add(connection, created.id, kind, definitions)
    return created


async def _change(connection: AsyncConnection, namespace: Namespace) -> Namespace:
    changed = await connection.execute(
        update(t.namespaces)
        .where(_n.id == namespace.id)
        .values(updated_at=now(), **_values(namespace))
        .returning(t.namespaces)
    )
    return _namespace_of(changed.mappings().one())


async def _delete(connection: AsyncConnection, namespace_id: int) -> None:
    await connection.execute(delete(t.definitions).where(_d.namespace_id == namespace_id))
    await connection.execute(delete(t.namespaces).where(_n.id == namespace_id))


async def _add(
    connection: AsyncConnection, namespace_id: int, kind: Kind, definitions: Sequence[Definition]
) -> list[Definition]:
    if not definitions:
        return []
    names = [one.name for one in definitions]
    taken = await _there(connection, namespace_id, kind, names)
    for name in names:
        if name in taken:
            raise _definition_taken(kind, name)
        taken.add(name)
    if kind is Kind.ASSOCIATION:
        await _make_resource_types(connection, names)
    moment = now()
    made = await connection.execute(
        insert(t.definitions).returning(t.definitions, sort_by_parameter_order=True),
        [
            {
                "namespace_id": namespace_id,
                "kind": kind.value,
                "name": one.name,
                "content": dict(one.content),
                "created_at": moment,
                "updated_at": moment,
            }
            for one in definitions
        ],
    )
    return [_definition_of(row) for row in made.mappings()]


async def _put(
    connection: AsyncConnection, namespace_id: int, contents: Contents, *, update_present: bool
) -> None:
    for kind, definitions in contents.items():
        there = await _there(connection, namespace_id, kind, [one.name for one in definitions])
        missing = [one for one in definitions if one.name not in there]
        await _add(connection, namespace_id, kind, missing)
        for one in definitions if update_present else ():
            if one.name in there:
                await connection.execute(
                    update(t.definitions)
                    .where(_in(namespace_id, kind), _d.name == one.name)
                    .values(content=dict(one.content), updated_at=now())
                )


async def _make_resource_types(connection: AsyncConnection, names: Sequence[str]) -> None:
    there = set(await connection.scalars(select(_r.name)))
    missing = [{"name": name, "created_at": now()} for name in names if name not in there]
    if missing:
        await connection.execute(insert(t.resource_types), missing)


async def _there(
    connection: AsyncConnection, namespace_id: int, kind: Kind, names: Sequence[str]
) -> set[str]:
    """Those of the names that are taken."""
    found: set[str] = set()
    for start in range(0, len(names), _AT_ONCE):
        asked = _d.name.in_(names[start : start + _AT_ONCE])
        found.update(
            await connection.scalars(select(_d.name).where(_in(namespace_id, kind), asked))
        )
    return found


def _wanted(query: NamespaceQuery) -> Select[Any]:
    statement = select(t.namespaces).where(_seen(query.viewer))
    if query.visibility is not None:
        statement = statement.where(_n.visibility == query.visibility.value)
    if query.resource_types is not None:
        associated = select(_d.namespace_id).where(
            _d.kind == Kind.ASSOCIATION.value, _d.name.in_(list(query.resource_types))
        )
        statement = statement.where(_n.id.in_(associated))
    return statement


def _page(
    statement: Select[Any],
    table: Table,
    query: NamespaceQuery | DefinitionQuery,
    marker: Namespace | Definition | None,
) -> Select[Any]:
    keys = dict.fromkeys((query.sort, "created_at", "id"), query.descending)
    if marker is not None:
        statement = statement.where(after(table, keys.items(), marker))
    for name, descending in keys.items():
        column = t.sortable(table.c[name])
        statement = statement.order_by(column.desc() if descending else column.asc())
    return statement.limit(query.limit)


def _seen(viewer: Viewer) -> ColumnElement[bool]:
    public = _n.visibility == Visibility.PUBLIC.value
    if viewer.admin:
        return true()
    return public if viewer.project is None else or_(public, _n.owner == viewer.project)


def _in(namespace_id: int, kind: Kind) -> ColumnElement[bool]:
    return and_(_d.namespace_id == namespace_id, _d.kind == kind.value)


def _values(namespace: Namespace) -> dict[str, Any]:
    values = {name: getattr(namespace, name) for name in _FIELDS}
    return {**values, "visibility": namespace.visibility.value}


def _namespace_of(row: Mapping[str, Any]) -> Namespace:
    return Namespace(**{**row, "visibility": Visibility(row["visibility"])})


def _definition_of(row: Mapping[str, Any]) -> Definition:
    return Definition(
        name=row["name"],
        content=row["content"],
        id=row["id"],
        created_at=row["created_at"],
        updated_at=row["updated_at"],
    )


def _no_such_namespace(name: str) -> NotFound:
    return NotFound(f"Metadata definition namespace not found: {name}")


def _no_such_definition(namespace: Namespace, kind: Kind, name: str) -> NotFound:
    return NotFound(f"The namespace {namespace.name} has no {kind} {name}.")


def _namespace_taken(name: str) -> Conflict:
    return Conflict(f"A metadata definition namespace {name} is there already.")


def _definition_taken(kind: Kind, name: str) -> Conflict:
    return Conflict(f"The namespace has the {kind} {name} already, or it is given twice.")


def _protected(namespace: Namespace) -> Forbidden:
    return Forbidden(f"The namespace {namespace.name} is protected: nothing can be deleted of it.")
