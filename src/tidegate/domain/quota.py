"""What a project may hold, as a value."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Allowance:
    """Of one project; images that no project owns share one. ``images`` and ``bytes`` are all that
    it holds, ``staged`` the bytes of what is staged, ``uploading`` the images whose data comes at
    the same time. None: no limit."""

    images: int | None = None
    bytes: int | None = None
    staged: int | None = None
    uploading: int | None = None

    @property
    def bounds_bytes(self) -> bool:
        return self.bytes is not None or self.staged is not None


UNLIMITED = Allowance()
