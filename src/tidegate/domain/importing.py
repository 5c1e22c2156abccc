"""The ways in which an image is imported, and when each can be asked for."""

from collections.abc import Mapping
from enum import StrEnum

from tidegate.domain.status import Status


class Method(StrEnum):
    DIRECT = "glance-direct"
    WEB = "web-download"
    COPY = "copy-image"
    REMOTE = "glance-download"


NEEDED: Mapping[Method, Status] = {
    Method.DIRECT: Status.UPLOADING,
    Method.WEB: Status.QUEUED,
    Method.COPY: Status.ACTIVE,
    Method.REMOTE: Status.QUEUED,
}
"""The status of the image."""
