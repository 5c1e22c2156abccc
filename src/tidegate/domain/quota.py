"""What a project may hold, as a value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowance:
    """Of one project; images that no project owns share one. None: no limit."""

    images: int | None = None
    bytes: int | None = None


UNLIMITED = Allowance()
