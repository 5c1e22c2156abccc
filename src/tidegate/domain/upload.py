"""One attempt to fill an image: who holds it, how far it is, why it failed.

An attempt is not an HTTP request: it has its own record, so that another node can finish it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class UploadState(StrEnum):
    """``started`` (claimed) → ``writing`` (store knows it) → ``completing`` (verified, being
    published) → ``done`` | ``failed``; ``staged`` (its object waits for an import) → ``done``."""

    STARTED = "started"
    WRITING = "writing"
    COMPLETING = "completing"
    STAGED = "staged"
    DONE = "done"
    FAILED = "failed"


OPEN = frozenset({UploadState.STARTED, UploadState.WRITING, UploadState.COMPLETING})


class Purpose(StrEnum):
    """``fill`` an image; ``stage`` its data; ``copy`` it into a store, for an import task."""

    FILL = "fill"
    STAGE = "stage"
    COPY = "copy"


WRONG_BYTES = "wrong_bytes"
NOT_COPIED = "not_copied"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt failed, in words for its owner.

    ``reason`` is a fixed word (``client_gone``, ``client_stalled``, ``size_mismatch``,
    ``digest_mismatch``, ``too_large``, ``source``, ``store``, ``deleted``, ``node_died``,
    ``drained``, ``refused``, ``not_copied``, ``wrong_bytes``, ``wrong_format``,
    ``unsafe_format``, ``internal``), ``where`` the step that failed (``reading``, ``copying``,
    ``begin``, ``part 7``, ``verify``, ``complete``, ``publish``, ``scrub``, ``fsck``, …).
    """

    reason: str
    where: str
    message: str
    request_id: str | None = None


def wrong_bytes(where: str, said: str) -> Failure:
    """Of stored data that was right once; ``where``: who found it out."""
    return Failure(
        WRONG_BYTES,
        where,
        f"The stored data is not what was uploaded ({said}), and there is no good copy of it. "
        "The image was deactivated.",
    )


@dataclass(frozen=True, slots=True)
class Sent:
    """What went through, as counted and hashed by us.

    ``digests`` maps algorithm to lower-case hex; ``crc64nvme`` is the whole object's;
    ``virtual_size`` is how large the disk inside is (bytes; None: unknown); ``disk_format`` is what
    the data was converted to (None: it was not).
    """

    size: int
    digests: Mapping[str, str] = field(default_factory=dict)
    crc64nvme: int | None = None
    parts: int = 1
    virtual_size: int | None = None
    disk_format: str | None = None

    @property
    def strongest(self) -> str | None:
        """The algorithm of what becomes ``os_hash_algo`` and ``os_hash_value``."""
        return max(
            (name for name in self.digests if name != "md5"),
            key=lambda name: (name == "sha512", len(self.digests[name])),
            default=None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """``id`` is the attempt's id and the claim on the image; ``task_id`` is the task of a copy;
    times are microseconds UTC."""

    id: str
    image_id: str
    store: str
    key: str
    purpose: Purpose = Purpose.FILL
    task_id: str | None = None
    state: UploadState = UploadState.STARTED
    upload_id: str | None = None
    node: str = ""
    expected_size: int | None = None
    received: int = 0
    sent: Sent | None = None
    failure: Failure | None = None
    started_at: int = 0
    updated_at: int = 0
    ended_at: int | None = None


@dataclass(frozen=True, slots=True)
class Removal:
    """Bytes that must go from a store: the intent, written before the deed.

    ``upload_id`` names a multipart upload to be aborted first. ``attempts`` counts failures.
    """

    id: int
    store: str
    key: str
    upload_id: str | None = None
    attempts: int = 0
