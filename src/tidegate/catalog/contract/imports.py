"""The catalog's contract: imports, each of them a task's.

``BadTransition`` where the task is no longer its holder's, the image no longer the task's, in
another status than is asked for, or deleted (its ``status`` says so). ``end_task`` ends the import
as well: with SUCCEED the image is active, with FAIL it is what it was before (queued, or active
without the new copies), and nothing that it does not need is left.
"""

from collections.abc import Sequence
from typing import Protocol

from tidegate.domain.image import Image
from tidegate.domain.quota import UNLIMITED, Allowance
from tidegate.domain.status import Status
from tidegate.domain.task import Task
from tidegate.domain.upload import Upload


class Imports(Protocol):
    async def ask_for_import(self, task: Task, status: Status) -> Task:
        """Insert a pending task, whose the image in this status is from now on, which shows the
        stores it is for. Conflict: it is a task's that has not ended. NotFound, BadTransition."""

    async def begin_import(self, task: Task, status: Status, stores: Sequence[str]) -> Image:
        """IMPORT from this status (UPLOADING: all of its data is staged); ACTIVE: nothing but the
        list of stores. Repeatable, also by the next holder."""

    async def note_import(
        self, task: Task, *, left: Sequence[str], failed: Sequence[str], activate: bool
    ) -> Image:
        """Show which stores are still to come, and which failed. ``activate``: FINISH_IMPORT."""

    async def publish_staged(
        self, task: Task, attempt: str, *, virtual_size: int | None = None
    ) -> Image:
        """The staged object becomes a location. Repeatable."""

    async def start_copy(
        self,
        upload: Upload,
        task: Task,
        *,
        deactivated: bool,
        lease: float,
        allowance: Allowance = UNLIMITED,
    ) -> Image:
        """Claim the image for an attempt to add a location, with its row and lease; where the
        image is deactivated only if that is no matter. The attempt is then one like any other.
        TooLarge: the image's project has no room for it."""
