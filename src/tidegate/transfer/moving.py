"""What makes an object in a store for whoever verifies and publishes it."""

from types import TracebackType
from typing import Protocol, Self

from tidegate.domain.upload import Sent
from tidegate.stores.base import Stored
from tidegate.transfer.inspect import Inspection


class Moving(Protocol):
    """One object on its way into a store.

    ``run`` brings all bytes but makes no object; ``finish`` makes it. Leaving the context releases
    what is held here; ending what was begun at the store is the caller's, who knows ``upload_id``
    and ``finishing`` (the object may be there). ``received`` counts bytes; ``step`` is what is
    being done, as a failure's record names it.
    """

    step: str
    finishing: bool

    @property
    def received(self) -> int: ...

    @property
    def upload_id(self) -> str | None: ...

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    async def run(self, inspection: Inspection | None = None) -> Sent:
        """To the end of the bytes, or until ``inspection`` refuses what comes."""

    async def finish(self) -> Stored:
        """StoreError: it is not there, or cannot be told."""
