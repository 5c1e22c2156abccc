"""The catalog's contract: what a project holds."""

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """``stored`` are the bytes that a project holds, once for each location, with those that are
    promised or still to be removed; ``staged`` those of images that are staged, imported or copied;
    ``images`` counts them, ``uploading`` those whose data is coming."""

    stored: int
    staged: int
    images: int
    uploading: int


class Usages(Protocol):
    async def usage_of(self, project: str | None) -> Usage:
        """Of what is not deleted, nor about to be. None: of what no project owns."""
