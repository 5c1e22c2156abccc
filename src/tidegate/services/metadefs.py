"""Metadata definitions: namespaces, and what they hold.

Each call finds the namespace for the caller first (NotFound, also for one that it may not see),
asks the rules of the call (Forbidden; NotFound for who may not know of it), and acts then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tidegate.catalog.base import Viewer
from tidegate.catalog.contract.metadefs import DefinitionQuery, Metadefs, NamespaceQuery
from tidegate.domain.errors import Forbidden, NotFound
from tidegate.domain.image import Image
from tidegate.domain.metadef import Contents, Definition, Kind, Namespace, prefix_of
from tidegate.domain.policy import Caller, Policy
from tidegate.telemetry import log

SEE = "get_metadef_namespace"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rules:
    """Of a kind, by their names. ``each``: also asked for what a list shows."""

    list: str
    show: str
    add: str
    drop: str
    change: str = ""
    each: str = SEE
    clear: Sequence[str] = ("delete_metadef_namespace",)


_RULES = {
    Kind.ASSOCIATION: _Rules(
        list="list_metadef_resource_types",
        show="get_metadef_resource_type",
        each="get_metadef_resource_type",
        add="add_metadef_resource_type_association",
        drop="remove_metadef_resource_type_association",
    ),
    Kind.OBJECT: _Rules(
        list="get_metadef_objects",
        show="get_metadef_object",
        each="get_metadef_object",
        add="add_metadef_object",
        change="modify_metadef_object",
        drop="delete_metadef_object",
    ),
    Kind.TAG: _Rules(
        list="get_metadef_tags",
        show="get_metadef_tag",
        add="add_metadef_tag",
        change="modify_metadef_tag",
        drop="delete_metadef_tag",
        clear=("delete_metadef_namespace", "delete_metadef_tags"),
    ),
    Kind.PROPERTY: _Rules(
        list="get_metadef_properties",
        show="get_metadef_property",
        add="add_metadef_property",
        change="modify_metadef_property",
        drop="remove_metadef_property",
    ),
}
_LISTS = tuple(rules.list for rules in _RULES.values())


@dataclass(frozen=True, slots=True)
class NamespacePage:
    """Namespaces with their associations; ``marker`` is where the next page begins (None: there
    is none). Policy may have hidden some, so a page can be short and yet not the last."""

    found: Sequence[tuple[Namespace, Sequence[Definition]]]
    marker: str | None


class Metadefinitions:
    def __init__(self, catalog: Metadefs, policy: Policy) -> None:
        self._catalog = catalog
        self._policy = policy

    # namespaces

    async def create(self, caller: Caller, namespace: Namespace, contents: Contents) -> Namespace:
        """Without an owner: the caller's project's. Forbidden, Conflict."""
        self._require(caller, "add_metadef_namespace")
        for kind, definitions in contents.items():
            if definitions:
                self._require(caller, _RULES[kind].add)
        made = await self._catalog.create_namespace(_owned(caller, namespace), contents)
        log.info("namespace created", namespace=made.name)
        return made

    async def page(self, caller: Caller, query: NamespaceQuery) -> NamespacePage:
        """``query.viewer`` is replaced by the caller's. The marker: NotFound, Forbidden."""
        self._require(caller, "get_metadef_namespaces")
        self._require(caller, "list_metadef_resource_types")
        found = await self._catalog.list_namespaces(replace(query, viewer=Viewer.of(caller)))
        more = 0 < query.limit <= len(found)
        seen = [one for one in found if self._allows(caller, SEE, one)]
        associations = await self._catalog.associations_of(seen)
        pairs = [(one, associations[one.id]) for one in seen]
        return NamespacePage(pairs, found[-1].name if more else None)

    async def show(self, caller: Caller, name: str) -> tuple[Namespace, Contents]:
        namespace = await self._find(caller, name, SEE, *_LISTS)
        return namespace, await self._catalog.contents_of(namespace)

    async def change(self, caller: Caller, name: str, wanted: Namespace) -> Namespace:
        """Make all of its fields as wanted; without an owner it becomes the caller's project's.
        Conflict: the new name is taken."""
        namespace = await self._find(caller, name, "modify_metadef_namespace")
        changed = replace(_owned(caller, wanted), id=namespace.id)
        namespace = await self._catalog.change_namespace(changed)
        log.info("namespace changed", namespace=name, new_name=namespace.name)
        return namespace

    async def delete(self, caller: Caller, name: str) -> None:
        """Forbidden, also where it is protected."""
        namespace = await self._find(caller, name, "delete_metadef_namespace")
        await self._catalog.delete_namespace(namespace)
        log.info("namespace deleted", namespace=name)

    # what they hold

    async def resource_types(self, caller: Caller) -> list[Definition]:
        self._require(caller, "list_metadef_resource_types")
        return await self._catalog.resource_types()

    async def definitions(
        self, caller: Caller, name: str, kind: Kind, query: DefinitionQuery
    ) -> list[Definition]:
        """NotFound, also: the marker."""
        rules = _RULES[kind]
        namespace = await self._find(caller, name, rules.list)
        found = await self._catalog.list_definitions(namespace, kind, query)
        return found if self._allows(caller, rules.each, namespace) else []

    async def definition(self, caller: Caller, name: str, kind: Kind, named: str) -> Definition:
        namespace = await self._find(caller, name, _RULES[kind].show)
        return await self._catalog.get_definition(namespace, kind, named)

    async def property_of(
        self, caller: Caller, name: str, named: str, resource_type: str
    ) -> Definition:
        """By the name that a type of resources knows it by, which begins with the prefix of the
        type's association. NotFound: also without such a prefix."""
        rules = (_RULES[Kind.PROPERTY].show, _RULES[Kind.ASSOCIATION].show)
        namespace = await self._find(caller, name, *rules)
        associations = (await self._catalog.associations_of([namespace]))[namespace.id]
        prefix = prefix_of(associations, resource_type)
        if not prefix or not named.startswith(prefix):
            raise NotFound(f"{resource_type} knows no property {named} of the namespace {name}.")
        own_name = named.removeprefix(prefix)
        return await self._catalog.get_definition(namespace, Kind.PROPERTY, own_name)

    async def add(
        self, caller: Caller, name: str, kind: Kind, definition: Definition
    ) -> Definition:
        """Conflict: its name is taken."""
        namespace = await self._find(caller, name, _RULES[kind].add)
        (added,) = await self._catalog.add_definitions(namespace, kind, [definition])
        log.info("definition added", namespace=name, kind=kind, name=definition.name)
        return added

    async def add_tags(
        self, caller: Caller, name: str, tags: Sequence[Definition], *, instead: bool
    ) -> None:
        """All or none of them, ``instead`` of those there are; none at all change nothing.
        Conflict: a name is taken, or given twice."""
        namespace = await self._find(caller, name, "add_metadef_tags")
        if tags:
            await self._catalog.add_definitions(namespace, Kind.TAG, tags, instead=instead)
            log.info("tags added", namespace=name, count=len(tags), instead=instead)

    async def redefine(
        self, caller: Caller, name: str, kind: Kind, named: str, definition: Definition
    ) -> Definition:
        """Conflict: its new name is taken."""
        namespace = await self._find(caller, name, _RULES[kind].change)
        changed = await self._catalog.change_definition(namespace, kind, named, definition)
        log.info("definition changed", namespace=name, kind=kind, name=named)
        return changed

    async def drop(self, caller: Caller, name: str, kind: Kind, named: str) -> None:
        """Forbidden, also where the namespace is protected."""
        namespace = await self._find(caller, name, _RULES[kind].drop)
        await self._catalog.drop_definition(namespace, kind, named)
        log.info("definition deleted", namespace=name, kind=kind, name=named)

    async def clear(self, caller: Caller, name: str, kind: Kind) -> None:
        """All of the kind. Forbidden, also where the namespace is protected."""
        namespace = await self._find(caller, name, *_RULES[kind].clear)
        await self._catalog.drop_definitions(namespace, kind)
        log.info("definitions deleted", namespace=name, kind=kind)

    async def _find(self, caller: Caller, name: str, *rules: str) -> Namespace:
        namespace = await self._catalog.get_namespace(name, Viewer.of(caller))
        for rule in rules:
            self._require(caller, rule, namespace)
        return namespace

    def _require(self, caller: Caller, rule: str, namespace: Namespace | None = None) -> None:
        if self._allows(caller, rule, namespace):
            return
        if not self._allows(caller, SEE, namespace):
            name = "" if namespace is None else f": {namespace.name}"
            raise NotFound(f"Metadata definition namespace not found{name}")
        raise Forbidden(f"You are not authorized to complete {rule} action.")

    def _allows(self, caller: Caller, rule: str, namespace: Namespace | None) -> bool:
        target = None
        if namespace is not None:
            # a rule knows an image by its owner and its visibility, and a namespace has both
            target = Image(
                id=namespace.name, owner=namespace.owner, visibility=namespace.visibility
            )
        return self._policy.allows(caller, rule, target)


def _owned(caller: Caller, namespace: Namespace) -> Namespace:
    owner = caller.project if namespace.owner is None else namespace.owner
    return replace(namespace, owner=owner)
