"""Images of other image services, for ``glance-download``: what they are like, and their data.

Which services there are is the operator's list; the way to them is that of every URL. They are
asked with the token of who asked for the import. It is kept in memory alone, and so is lost with
the server that was asked.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from tidegate.domain.errors import (
    Busy,
    Forbidden,
    Invalid,
    LocationRefused,
    ObjectMissing,
    SourceBroke,
    StoreError,
    TidegateError,
)
from tidegate.domain.image import UUID
from tidegate.domain.importing import Method
from tidegate.domain.task import Task
from tidegate.services.images import property_name
from tidegate.settings import ImageFormat
from tidegate.stores.base import Store
from tidegate.stores.http import HttpStore

COPIED = ("hw_", "trait:", "os_distro", "os_secure_boot", "os_type")
"""How the names of the properties begin that are taken over."""

MAX_RECORD = 2**20
MAX_TOKENS = 1000

TRIES = 5
"""How often servers that do not know the token leave a task to the one that does."""

_STRANGE = "The source does not answer as an image service does."


@dataclass(frozen=True, slots=True)
class RemoteImage:
    """``store`` gives its data under ``url``; ``digests`` maps hashlib's names to hex."""

    store: Store
    url: str
    size: int | None
    digests: Mapping[str, str]
    fields: Mapping[str, str]
    properties: Mapping[str, str] = field(default_factory=dict)


class Elsewhere:
    """``regions`` are URLs by name."""

    def __init__(self, remote: HttpStore, regions: Mapping[str, str], formats: ImageFormat) -> None:
        self._remote = remote
        self._regions = regions
        self._formats = {
            "disk_format": formats.disk_formats,
            "container_format": formats.container_formats,
        }
        self._tokens: OrderedDict[str, str] = OrderedDict()

    def check(self, method: Mapping[str, object]) -> None:
        """Whether a request names an image that can be asked for. Invalid."""
        for name in ("glance_region", "glance_image_id"):
            if not method.get(name):
                raise Invalid(f"'{name}' needs to be set for {Method.REMOTE} import method")
        image_id, region = str(method["glance_image_id"]), str(method["glance_region"])
        if not UUID.fullmatch(image_id):
            raise Invalid(f"Remote image id does not look like a UUID: {image_id}")
        if region not in self._regions:
            raise Invalid(f"There is no region '{region}' here.")
        try:
            self._remote.check(self._url(region, image_id))
        except LocationRefused as error:
            raise Invalid(f"The region '{region}' cannot be asked: {error.message}") from error

    def remember(self, task_id: str, token: str) -> None:
        self._tokens[task_id] = token
        while len(self._tokens) > MAX_TOKENS:
            self._tokens.popitem(last=False)

    def forget(self, task_id: str) -> None:
        self._tokens.pop(task_id, None)

    async def find(self, task: Task, method: Mapping[str, object]) -> RemoteImage:
        """The image that a task's request names. Busy: another server may know the token;
        Forbidden: none does any more; SourceBroke."""
        store: HttpStore = self._remote
        if task.input.get("authenticated"):
            token = self._tokens.get(task.id)
            if token is None and task.fence < TRIES:
                raise Busy("Another server has the token for this import.", retry_after=1)
            if token is None:
                raise Forbidden("The token for this import is lost; submit it again.")
            store = self._remote.with_secret({"X-Auth-Token": token})
        url = self._url(str(method["glance_region"]), str(method["glance_image_id"]))
        try:
            found = orjson.loads(await _read(store, url))
        except ObjectMissing as error:
            raise SourceBroke("The remote image is not there.") from error
        except StoreError as error:
            raise SourceBroke("The source is not reachable.") from error
        except ValueError as error:
            raise SourceBroke(_STRANGE) from error
        return self._image(store, url, found)

    def _url(self, region: str, image_id: str) -> str:
        base = self._regions[region].rstrip("/").removesuffix("/v2")
        return f"{base}/v2/images/{image_id}"

    def _image(self, store: Store, url: str, found: Any) -> RemoteImage:
        if not isinstance(found, dict):
            raise SourceBroke(_STRANGE)
        if found.get("status") != "active":
            raise SourceBroke("The remote image is not active.")
        size = found.get("size")
        texts = {name: value for name, value in found.items() if isinstance(value, str)}
        digests = {
            "md5": texts.get("checksum"),
            texts.get("os_hash_algo"): texts.get("os_hash_value"),
        }
        return RemoteImage(
            store,
            f"{url}/file",
            size if isinstance(size, int) and size >= 0 else None,
            {name: value.lower() for name, value in digests.items() if name and value},
            {
                name: texts[name]
                for name, known in self._formats.items()
                if texts.get(name) in known
            },
            {
                name: value
                for name, value in texts.items()
                if name.startswith(COPIED) and _may_be_property(name)
            },
        )


async def _read(store: Store, url: str) -> bytes:
    room = memoryview(bytearray(MAX_RECORD + 1))
    came = 0
    async with store.read(url) as reading:
        while count := await reading.readinto(room[came:]):
            came += count
    if came > MAX_RECORD:
        raise ValueError("too long")
    return bytes(room[:came])


def _may_be_property(name: str) -> bool:
    try:
        property_name(name)
    except TidegateError:
        return False
    return True
