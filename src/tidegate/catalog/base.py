"""The contract of the catalog: the record of images, uploads, tasks and what must be removed.

Each method is one transaction. Decisions live inside the statement (``UPDATE … WHERE status IN
(…)``), never in a read before it; after an unknown outcome a call may be repeated. Raises
``CatalogDown`` when the database cannot be reached or stays locked, else the errors named.
Times are microseconds since 1970 (UTC); leases are judged by the catalog's own clock.
"""

from typing import Protocol

from tidegate.catalog.contract.checks import Checks, Fate, Flaw, Held
from tidegate.catalog.contract.copies import Adoptions, Scrubs
from tidegate.catalog.contract.deletions import Deletions
from tidegate.catalog.contract.exports import Exports
from tidegate.catalog.contract.images import (
    EVERYTHING,
    AddLocation,
    Condition,
    DescribeLocation,
    ImageChange,
    ImageQuery,
    Images,
    LeaveStore,
    LocationEdit,
    RemoveLocation,
    Viewer,
)
from tidegate.catalog.contract.imports import Imports
from tidegate.catalog.contract.members import Members
from tidegate.catalog.contract.registering import Registrations
from tidegate.catalog.contract.tasks import TaskQuery, Tasks
from tidegate.catalog.contract.uploads import Attempts, Removals
from tidegate.catalog.contract.usage import Usage, Usages

__all__ = [
    "EVERYTHING",
    "AddLocation",
    "Catalog",
    "Checks",
    "Condition",
    "Deletions",
    "DescribeLocation",
    "Fate",
    "Flaw",
    "Held",
    "ImageChange",
    "ImageQuery",
    "LeaveStore",
    "LocationEdit",
    "RemoveLocation",
    "TaskQuery",
    "Usage",
    "Viewer",
]


class Catalog(
    Images,
    Members,
    Attempts,
    Removals,
    Tasks,
    Imports,
    Adoptions,
    Scrubs,
    Usages,
    Registrations,
    Exports,
    Protocol,
):
    async def open(self) -> None:
        """Connect; migrate the schema under a lock (SQLite) or check it. CatalogDown."""

    async def close(self) -> None: ...

    async def ping(self) -> None: ...
