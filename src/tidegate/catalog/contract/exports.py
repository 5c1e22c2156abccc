"""The catalog's contract: keys of stores that tasks export images to.

A key is one task's until that ends. ``end_task`` with SUCCEED lets it go; what a task leaves that
ended otherwise is ``stale``, and whoever asks for the key next has it, with what was begun there.
BadTransition: the task is no longer its holder's.
"""

from collections.abc import Sequence
from typing import Protocol

from tidegate.domain.export import Export
from tidegate.domain.task import Task
from tidegate.domain.upload import Sent


class Exports(Protocol):
    async def claim_export(self, task: Task, store: str, key: str) -> Export:
        """Have the key for a task that is held; repeatable, also by its next holder, who finds
        what the one before wrote down. Of what another task left only ``upload_id`` remains, to
        be aborted. Conflict: another task exports there, an image lies there, or what lies there
        is to be removed. BadTransition."""

    async def export_began(self, task: Task, export: Export, upload_id: str) -> None:
        """It begins, perhaps again, as this upload of the store's. BadTransition."""

    async def export_completing(self, task: Task, export: Export, sent: Sent) -> None:
        """What was sent is verified, and becomes the object. Conflict: the task's image is no
        longer active. BadTransition."""

    async def drop_export(self, task: Task, export: Export) -> None:
        """Nothing of it is left. Repeatable. BadTransition."""

    async def stale_exports(self, stores: Sequence[str], *, limit: int = 50) -> list[Export]:
        """Those in these stores whose tasks ended, or are not there any more."""

    async def forget_export(self, export: Export) -> bool:
        """Drop one that is as it was found, and stale still; whether it was."""
