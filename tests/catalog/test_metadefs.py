"""What every catalog promises of metadata definitions."""

import asyncio

import pytest

from tidegate.catalog.base import Viewer
from tidegate.catalog.contract.metadefs import DefinitionQuery, NamespaceQuery
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import Conflict, Forbidden, NotFound
from tidegate.domain.image import Visibility
from tidegate.domain.metadef import Contents, Definition, Kind, Loading, Namespace

ADMIN = Viewer(admin=True)
CONTENTS: Contents = {
    Kind.ASSOCIATION: [Definition(name="host", content={"prefix": "h_"})],
    Kind.OBJECT: [Definition(name="o", content={"description": "ö"})],
    Kind.TAG: [Definition(name="b"), Definition(name="a")],
    Kind.PROPERTY: [Definition(name="p", content={"title": "P", "default": None})],
}


@pytest.fixture
async def namespace(catalog: SqlCatalog) -> Namespace:
    return await catalog.create_namespace(Namespace(name="n", owner="p1"), CONTENTS)


async def held(catalog: SqlCatalog, namespace: Namespace) -> dict[Kind, list[tuple[str, object]]]:
    found = await catalog.contents_of(namespace)
    return {kind: [(one.name, one.content) for one in found[kind]] for kind in Kind}


def plain(contents: Contents) -> dict[Kind, list[tuple[str, object]]]:
    return {kind: [(one.name, one.content) for one in contents.get(kind, ())] for kind in Kind}


async def test_contents_are_kept_in_their_order(catalog: SqlCatalog, namespace: Namespace) -> None:
    assert await held(catalog, namespace) == plain(CONTENTS)
    listed = await catalog.list_definitions(namespace, Kind.TAG, DefinitionQuery())
    assert [one.name for one in listed] == ["b", "a"]
    found = await catalog.get_namespace("n", Viewer(project="p1"))
    assert found == namespace
    assert found.created_at == found.updated_at > 0


async def test_who_sees_a_namespace(catalog: SqlCatalog, namespace: Namespace) -> None:
    await catalog.create_namespace(Namespace(name="all", visibility=Visibility.PUBLIC), {})
    await catalog.create_namespace(Namespace(name="nobody's"), {})
    seen = {
        ADMIN: {"n", "all", "nobody's"},
        Viewer(project="p1"): {"n", "all"},
        Viewer(project="p2"): {"all"},
        Viewer(): {"all"},
    }
    for viewer, names in seen.items():
        listed = await catalog.list_namespaces(NamespaceQuery(viewer=viewer))
        assert {one.name for one in listed} == names
        for name in ("n", "all", "nobody's"):
            if name in names:
                await catalog.get_namespace(name, viewer)
            else:
                with pytest.raises(NotFound):
                    await catalog.get_namespace(name, viewer)
                with pytest.raises(Forbidden):
                    await catalog.list_namespaces(NamespaceQuery(viewer=viewer, marker=name))


async def test_one_of_two_gets_a_name(catalog: SqlCatalog, other: SqlCatalog) -> None:
    asked = [one.create_namespace(Namespace(name="n"), CONTENTS) for one in (catalog, other) * 4]
    made = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in made].count(Namespace) == 1
    assert [type(one) for one in made].count(Conflict) == 7
    (namespace,) = [one for one in made if isinstance(one, Namespace)]
    assert await held(catalog, namespace) == plain(CONTENTS)
    tag = [Definition(name="new")]
    asked = [one.add_definitions(namespace, Kind.TAG, tag) for one in (catalog, other) * 4]
    added = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(one) for one in added].count(Conflict) == 7


async def test_what_fails_leaves_everything_as_it_was(
    catalog: SqlCatalog, namespace: Namespace
) -> None:
    twice = [Definition(name="x"), Definition(name="x")]
    with pytest.raises(Conflict):
        await catalog.create_namespace(Namespace(name="m"), {Kind.TAG: twice})
    with pytest.raises(NotFound):
        await catalog.get_namespace("m", ADMIN)
    with pytest.raises(Conflict):
        await catalog.add_definitions(namespace, Kind.TAG, twice, instead=True)
    with pytest.raises(Conflict):
        await catalog.change_definition(namespace, Kind.TAG, "a", Definition(name="b"))
    with pytest.raises(NotFound):
        await catalog.change_definition(namespace, Kind.TAG, "none", Definition(name="b"))
    assert await held(catalog, namespace) == plain(CONTENTS)


async def test_a_namespace_that_was_found_is_changed_or_none_is(
    catalog: SqlCatalog, other: SqlCatalog, namespace: Namespace
) -> None:
    await other.delete_namespace(namespace)
    again = await other.create_namespace(Namespace(name="n"), {})
    assert again.id != namespace.id
    tag = Definition(name="t")
    for call in (
        catalog.change_namespace(namespace),
        catalog.delete_namespace(namespace),
        catalog.add_definitions(namespace, Kind.TAG, [tag]),
        catalog.change_definition(namespace, Kind.TAG, "a", tag),
        catalog.drop_definition(namespace, Kind.TAG, "a"),
        catalog.drop_definitions(namespace, Kind.TAG),
    ):
        with pytest.raises(NotFound):
            await call
    assert await held(catalog, again) == plain({})
    assert await catalog.get_namespace("n", ADMIN) == again


async def test_protection_is_judged_when_it_is_deleted(
    catalog: SqlCatalog, other: SqlCatalog, namespace: Namespace
) -> None:
    protected = Namespace(id=namespace.id, name="n", protected=True)
    await other.change_namespace(protected)
    for call in (  # by who still holds the namespace as it was
        catalog.delete_namespace(namespace),
        catalog.drop_definition(namespace, Kind.TAG, "a"),
        catalog.drop_definitions(namespace, Kind.TAG),
    ):
        with pytest.raises(Forbidden):
            await call
    with pytest.raises(NotFound):
        await catalog.drop_definition(namespace, Kind.TAG, "none")
    assert await held(catalog, namespace) == plain(CONTENTS)


OTHER: Contents = {
    Kind.ASSOCIATION: [Definition(name="image")],
    Kind.TAG: [Definition(name="a"), Definition(name="c")],
    Kind.PROPERTY: [Definition(name="p", content={"title": "new"})],
}
BOTH: Contents = {
    Kind.ASSOCIATION: [*CONTENTS[Kind.ASSOCIATION], *OTHER[Kind.ASSOCIATION]],
    Kind.OBJECT: CONTENTS[Kind.OBJECT],
    Kind.TAG: [Definition(name="b"), Definition(name="a"), Definition(name="c")],
}


@pytest.mark.parametrize(
    ("loading", "owner", "contents"),
    [
        (Loading.KEEP, "p1", CONTENTS),
        (Loading.ADD, "p1", {**BOTH, Kind.PROPERTY: CONTENTS[Kind.PROPERTY]}),
        (Loading.UPDATE, "admin", {**BOTH, Kind.PROPERTY: OTHER[Kind.PROPERTY]}),
        (Loading.REPLACE, "admin", OTHER),
    ],
)
async def test_a_namespace_is_loaded_over_one_that_is_there(
    catalog: SqlCatalog, namespace: Namespace, loading: Loading, owner: str, contents: Contents
) -> None:
    await catalog.change_namespace(Namespace(id=namespace.id, name="n", owner="p1", protected=True))
    loaded = Namespace(name="n", owner="admin", description="d")
    assert await catalog.load_namespace(loaded, OTHER, loading) is loading
    found = await catalog.get_namespace("n", ADMIN)
    assert (found.owner, found.protected) == (owner, owner == "p1")
    assert await held(catalog, found) == plain(contents)


@pytest.mark.parametrize("loading", Loading)
async def test_a_namespace_that_is_not_there_is_loaded(
    catalog: SqlCatalog, loading: Loading
) -> None:
    assert await catalog.load_namespace(Namespace(name="n"), CONTENTS, loading) is None
    assert await held(catalog, await catalog.get_namespace("n", ADMIN)) == plain(CONTENTS)
    assert [one.name for one in await catalog.resource_types()] == ["host"]
    twice = {Kind.TAG: [Definition(name="x"), Definition(name="x")]}
    with pytest.raises(Conflict):
        await catalog.load_namespace(Namespace(name="m"), twice, loading)
