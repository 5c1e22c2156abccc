"""Metadata definitions: which rules each call asks, and what a refused one comes to."""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tidegate.catalog.base import Viewer
from tidegate.catalog.contract.metadefs import DefinitionQuery, NamespaceQuery
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import Forbidden, NotFound
from tidegate.domain.image import Image, Visibility
from tidegate.domain.metadef import Definition, Kind, Namespace
from tidegate.domain.policy import DEFAULT_RULES, Caller, Policy
from tidegate.services.metadefs import Metadefinitions

ADMIN = Caller(project="p0", roles=frozenset({"admin", "member", "reader"}))
READER = Caller(project="p1", roles=frozenset({"reader"}))
A, C = Definition(name="a"), Definition(name="c")
ALL = {kind: [A] for kind in Kind}
QUERY = NamespaceQuery(viewer=Viewer())
WHOLE = DefinitionQuery()

Call = Callable[[Metadefinitions, Caller], Awaitable[object]]
K = Kind
SEE = "get_metadef_namespace"

RULES: dict[str, tuple[Call, set[str]]] = {
    "list": (
        lambda s, c: s.page(c, QUERY),
        {"get_metadef_namespaces", "list_metadef_resource_types", SEE},
    ),
    "create": (lambda s, c: s.create(c, Namespace(name="m"), {}), {"add_metadef_namespace"}),
    "create with all": (
        lambda s, c: s.create(c, Namespace(name="m"), ALL),
        {"add_metadef_namespace", "add_metadef_object", "add_metadef_property", "add_metadef_tag",
         "add_metadef_resource_type_association"},
    ),
    "show": (
        lambda s, c: s.show(c, "n"),
        {SEE, "get_metadef_objects", "get_metadef_properties", "get_metadef_tags",
         "list_metadef_resource_types"},
    ),
    "change": (lambda s, c: s.change(c, "n", Namespace(name="n")), {"modify_metadef_namespace"}),
    "delete": (lambda s, c: s.delete(c, "n"), {"delete_metadef_namespace"}),
    "types": (lambda s, c: s.resource_types(c), {"list_metadef_resource_types"}),
    "list objects": (
        lambda s, c: s.definitions(c, "n", K.OBJECT, WHOLE),
        {"get_metadef_objects", "get_metadef_object"},
    ),
    "list properties": (
        lambda s, c: s.definitions(c, "n", K.PROPERTY, WHOLE), {"get_metadef_properties", SEE},
    ),
    "list tags": (lambda s, c: s.definitions(c, "n", K.TAG, WHOLE), {"get_metadef_tags", SEE}),
    "list associations": (
        lambda s, c: s.definitions(c, "n", K.ASSOCIATION, WHOLE),
        {"list_metadef_resource_types", "get_metadef_resource_type"},
    ),
    "show object": (lambda s, c: s.definition(c, "n", K.OBJECT, "a"), {"get_metadef_object"}),
    "show property": (
        lambda s, c: s.definition(c, "n", K.PROPERTY, "a"), {"get_metadef_property"},
    ),
    "show property of a type": (
        lambda s, c: s.property_of(c, "n", "h_a", "host"),
        {"get_metadef_property", "get_metadef_resource_type"},
    ),
    "show tag": (lambda s, c: s.definition(c, "n", K.TAG, "a"), {"get_metadef_tag"}),
    "add object": (lambda s, c: s.add(c, "n", K.OBJECT, C), {"add_metadef_object"}),
    "add property": (lambda s, c: s.add(c, "n", K.PROPERTY, C), {"add_metadef_property"}),
    "add tag": (lambda s, c: s.add(c, "n", K.TAG, C), {"add_metadef_tag"}),
    "add tags": (lambda s, c: s.add_tags(c, "n", [C], instead=True), {"add_metadef_tags"}),
    "associate": (
        lambda s, c: s.add(c, "n", K.ASSOCIATION, C), {"add_metadef_resource_type_association"},
    ),
    "change object": (lambda s, c: s.redefine(c, "n", K.OBJECT, "a", C), {"modify_metadef_object"}),
    "change property": (
        lambda s, c: s.redefine(c, "n", K.PROPERTY, "a", C), {"modify_metadef_property"},
    ),
    "change tag": (lambda s, c: s.redefine(c, "n", K.TAG, "a", C), {"modify_metadef_tag"}),
    "delete object": (lambda s, c: s.drop(c, "n", K.OBJECT, "a"), {"delete_metadef_object"}),
    "delete property": (lambda s, c: s.drop(c, "n", K.PROPERTY, "a"), {"remove_metadef_property"}),
    "delete tag": (lambda s, c: s.drop(c, "n", K.TAG, "a"), {"delete_metadef_tag"}),
    "dissociate": (
        lambda s, c: s.drop(c, "n", K.ASSOCIATION, "a"),
        {"remove_metadef_resource_type_association"},
    ),
    "delete objects": (lambda s, c: s.clear(c, "n", K.OBJECT), {"delete_metadef_namespace"}),
    "delete properties": (lambda s, c: s.clear(c, "n", K.PROPERTY), {"delete_metadef_namespace"}),
    "delete tags": (
        lambda s, c: s.clear(c, "n", K.TAG), {"delete_metadef_namespace", "delete_metadef_tags"},
    ),
}  # fmt: skip


class Noting(Policy):
    """A policy that notes what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: set[str] = set()

    def allows(
        self, caller: Caller, action: str, image: Image | None = None, *, member: str | None = None
    ) -> bool:
        self.asked.add(action)
        return super().allows(caller, action, image, member=member)


@pytest.fixture
async def catalog(tmp_path: Path) -> AsyncIterator[SqlCatalog]:
    catalog = SqlCatalog(f"sqlite:///{tmp_path / 'catalog.db'}")
    await catalog.open()
    host = Definition(name="host", content={"prefix": "h_"})
    contents = {**ALL, Kind.ASSOCIATION: [A, host]}
    public = Namespace(name="n", owner="p1", visibility=Visibility.PUBLIC)
    await catalog.create_namespace(public, contents)
    yield catalog
    await catalog.close()


@pytest.mark.parametrize("call", RULES)
async def test_a_call_asks_its_rules(catalog: SqlCatalog, call: str) -> None:
    policy = Noting()
    make, rules = RULES[call]
    await make(Metadefinitions(catalog, policy), ADMIN)
    assert policy.asked == rules


def test_every_rule_is_asked_by_a_call() -> None:
    asked = {rule for _, rules in RULES.values() for rule in rules}
    assert asked == {rule for rule in DEFAULT_RULES if "metadef" in rule}


def without(*rules: str) -> Policy:
    return Policy({**DEFAULT_RULES, **dict.fromkeys(rules, DEFAULT_RULES["publicize_image"])})


@pytest.mark.parametrize("call", ["list", "show", "show property", "list objects"])
async def test_a_refused_rule_is_forbidden_or_not_found_for_who_may_not_know(
    catalog: SqlCatalog, call: str
) -> None:
    make, rules = RULES[call]
    # what else is asked of each item hides it alone
    rule = next(
        rule for rule in sorted(rules, reverse=True) if rule not in (SEE, "get_metadef_object")
    )
    with pytest.raises(Forbidden, match=f"^You are not authorized to complete {rule} action"):
        await make(Metadefinitions(catalog, without(rule)), READER)
    with pytest.raises(NotFound):
        await make(Metadefinitions(catalog, without(rule, SEE)), READER)


async def test_what_a_list_may_not_show_is_left_out(catalog: SqlCatalog) -> None:
    service = Metadefinitions(catalog, without(SEE))
    page = await service.page(READER, NamespaceQuery(viewer=Viewer(), limit=1))
    assert (list(page.found), page.marker) == ([], "n")
    for rule, kind in (
        ("get_metadef_object", Kind.OBJECT),
        ("get_metadef_resource_type", Kind.ASSOCIATION),
    ):
        service = Metadefinitions(catalog, without(rule))
        assert await service.definitions(READER, "n", kind, WHOLE) == []


async def test_who_does_not_read_is_told_of_nothing(catalog: SqlCatalog) -> None:
    service = Metadefinitions(catalog, Policy())
    nobody = Caller(project="p1", roles=frozenset({"guest"}))
    for call in ("list", "types", "show", "create", "change", "list tags"):
        with pytest.raises(NotFound):
            await RULES[call][0](service, nobody)
