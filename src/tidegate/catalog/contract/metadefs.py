"""The catalog's contract: metadata definitions.

A namespace is named to the viewer; once found, it is known by its id, so that whoever holds one
changes that one or, when it is gone, none (NotFound).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tidegate.catalog.base import Viewer
from tidegate.domain.image import Visibility
from tidegate.domain.metadef import Contents, Definition, Kind, Loading, Namespace


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceQuery:
    """A page of namespaces: all for an admin, else the public ones and the viewer's.
    ``resource_types``: associated with any of these. The creation and the id break ties, in the
    same direction. ``marker`` is the name of the last one of the page before."""

    viewer: Viewer
    visibility: Visibility | None = None
    resource_types: Sequence[str] | None = None
    sort: str = "created_at"
    descending: bool = True
    limit: int = 25
    marker: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DefinitionQuery:
    """A page of what a namespace holds of a kind; by default all, in the order of their making.
    ``marker`` is a name."""

    sort: str = "created_at"
    descending: bool = False
    limit: int | None = None
    marker: str | None = None


class Metadefs(Protocol):
    async def create_namespace(self, namespace: Namespace, contents: Contents) -> Namespace:
        """With what it holds, or not at all. Types of resources are made where they are not there.
        Conflict: the name is taken, or one of its contents is given twice."""

    async def get_namespace(self, name: str, viewer: Viewer) -> Namespace:
        """NotFound: absent, or not for the viewer's eyes."""

    async def list_namespaces(self, query: NamespaceQuery) -> list[Namespace]:
        """The marker: NotFound; Forbidden when the viewer may not see it."""

    async def change_namespace(self, namespace: Namespace) -> Namespace:
        """Give the namespace of this id these fields; what it holds follows. NotFound; Conflict:
        the name is taken."""

    async def delete_namespace(self, namespace: Namespace) -> None:
        """With all it holds. NotFound; Forbidden: it is protected."""

    async def load_namespace(
        self, namespace: Namespace, contents: Contents, loading: Loading
    ) -> Loading | None:
        """What was done of one that was there; None: it was not, and was made. Conflict: one of
        its contents is given twice."""

    async def resource_types(self) -> list[Definition]:
        """All there are, by name; they never change and never go."""

    async def associations_of(
        self, namespaces: Sequence[Namespace]
    ) -> Mapping[int, list[Definition]]:
        """By the namespace's id."""

    async def contents_of(self, namespace: Namespace) -> dict[Kind, list[Definition]]:
        """Each kind is there, in the order of making."""

    async def list_definitions(
        self, namespace: Namespace, kind: Kind, query: DefinitionQuery
    ) -> list[Definition]:
        """NotFound: the marker."""

    async def get_definition(self, namespace: Namespace, kind: Kind, name: str) -> Definition:
        """NotFound."""

    async def add_definitions(
        self,
        namespace: Namespace,
        kind: Kind,
        definitions: Sequence[Definition],
        *,
        instead: bool = False,
    ) -> list[Definition]:
        """All or none; ``instead`` of all of the kind. NotFound; Conflict: a name is taken, or
        given twice."""

    async def change_definition(
        self, namespace: Namespace, kind: Kind, name: str, definition: Definition
    ) -> Definition:
        """NotFound; Conflict: the new name is taken."""

    async def drop_definition(self, namespace: Namespace, kind: Kind, name: str) -> None:
        """NotFound; Forbidden: the namespace is protected."""

    async def drop_definitions(self, namespace: Namespace, kind: Kind) -> None:
        """All of the kind. NotFound: the namespace; Forbidden: it is protected."""
