"""The catalog's contract: locations that a task registers and measures."""

from collections.abc import Mapping
from typing import Protocol

from tidegate.domain.image import Image, Location
from tidegate.domain.quota import UNLIMITED, Allowance
from tidegate.domain.task import Task


class Registrations(Protocol):
    """An image is a task's while its property ``LOCK`` names it. Methods of a task's holder raise
    BadTransition where the task is another holder's by now, or the image is not its own any more
    or deleted; each of them may be repeated. The image is let go by ``end_task``, which takes it
    back to queued where it is importing still."""

    async def ask_for_location(self, task: Task) -> Task:
        """A pending task whose a queued image is from now on. NotFound, BadTransition; Conflict:
        the image is another unended task's."""

    async def begin_location(self, task: Task, *, verify: bool) -> Image:
        """The image, whose formats are set (else Invalid). ``verify``: a queued one is importing
        from now on."""

    async def register_location(
        self,
        task: Task,
        location: Location,
        learnt: Mapping[str, object],
        *,
        refill: bool,
        publish_unverified: bool = False,
        allowance: Allowance = UNLIMITED,
    ) -> Image:
        """The first location of a queued image, or of one that this task imports, which becomes
        active with what was learnt of it (columns); without a ``hash_value`` among it, the data
        is unverified. Conflict: it was active before, and this is no ``refill``. TooLarge: its
        project has no room for it. Unverified: it is public, and this does not
        ``publish_unverified`` data."""

    async def note_digests(self, task: Task, location: Location, learnt: Mapping[str, str]) -> None:
        """Of an active or deactivated image that still has the location, and no digests yet. The
        location is verified by them.
        Conflict: it has others."""
