"""What all rules stand on: the models of a run, what must hold after each step, and the means."""

import base64
import json
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant
from tests.kit.sources import pattern
from tests.model.model import PART, Model, Work
from tests.model.source import Given
from tests.model.world import DATA, SETTLED_WITHIN, Reply, World

V21 = "application/openstack-images-v2.1-json-patch"
FORMATS = {"disk_format": "raw", "container_format": "bare"}
SMALL = [0, 1, 1000, 70_001, 300_000]
BIG = 5 * 2**20 + 1
SIZES = st.sampled_from([*SMALL, *SMALL, BIG])
"""The big one is of two parts, and as dear as thirty others."""

APIS = st.sampled_from(["v1", "v2"])
CALLERS = st.sampled_from(["owner", "admin"])
ANYBODY = st.sampled_from(["owner", "admin", "stranger"])


class Ground(RuleBasedStateMachine):
    """``world`` is set by who runs it."""

    world: World
    steps = 0
    """Steps of all runs together."""

    images = Bundle("images")

    def __init__(self) -> None:
        super().__init__()
        self.models: dict[str, Model] = {}
        self.works: dict[str, Work] = {}
        self.seed = 0
        self.crashes = 0
        self.parts_sent = False
        """Whether a multipart upload may be open."""
        self.leaving: dict[str, float] = {}
        """Images whose bytes are still on their way out, and until when that may last."""

    # what must hold

    @invariant()
    def the_gateway_agrees(self) -> None:
        Ground.steps += 1
        for work in self.works.values():
            if not work.ended:
                self._look_at_task(work)
        path = "/v2/images?limit=1000&owner=p1&visibility=all"
        reply = self.world.ask("GET", path, caller="admin")
        assert reply.status == 200, reply
        images = {image["id"]: image for image in reply.json["images"]}
        known = dict(self.models)
        for image_id in images.keys() - self.models.keys():
            self._find_task_of(image_id, images.pop(image_id)["status"])
        for model in known.values():
            if model.id in images:
                self._look(model, images[model.id]["status"])
                self._agree(model, images[model.id])
            else:
                assert model.gone, model
        if self.world.touched or self._busy():
            self._look_into_the_bucket(known, images)
            self.world.touched = False

    def _agree(self, model: Model, image: dict[str, Any]) -> None:
        if model.may_be is not None:
            return
        assert image["status"] == model.status, (model.id, image["status"], model.status)
        assert image["visibility"] == model.visibility, model
        data = model.data
        if model.readable:
            assert data is not None
            assert image["size"] == len(data)
            assert len(image["locations"]) == len(model.locations)
            if model.locations and model.locations[0]:
                assert (image["checksum"], image["os_hash_value"]) == model.digests
        else:
            assert (image["size"], image["checksum"], image["os_hash_value"]) == (None, None, None)
            assert image["locations"] == []

    def _look_into_the_bucket(self, known: dict[str, Model], images: dict[str, Any]) -> None:
        """Just the bytes of readable images lie there, beside what is coming and going."""
        stored = self.world.stored()
        for image_id, image in images.items():
            model = known[image_id]
            if model.may_be is not None:
                continue
            for key in self._keys(image):
                found = stored.pop(key, None)
                assert found is not None, f"{key} is missing"
                assert model.data is not None
                assert found.size == len(model.data), key
                assert found.etag in model.etags, key
        # what is no longer than a part never opens a multipart upload
        unfinished = self.world.unfinished() if self.parts_sent else []
        self.parts_sent = bool(unfinished) or self._busy()
        for key in [*stored, *unfinished]:
            assert self._is_on_its_way(key[:36], known), f"{key} is nobody's"

    def _busy(self) -> bool:
        """Whether anything is done that no request waits for."""
        return (
            any(not work.ended for work in self.works.values())
            or any(model.may_be is not None for model in self.models.values())
            or any(until > time.monotonic() for until in self.leaving.values())
        )

    def _keys(self, image: dict[str, Any]) -> list[str]:
        """Of an image as it is shown, those of its objects of ours."""
        ours = f"s3://{self.world.bucket.name}/"
        urls = [location["url"] for location in image["locations"]]
        return [url.removeprefix(ours) for url in urls if url.startswith(ours)]

    def _is_on_its_way(self, image: str, known: dict[str, Model]) -> bool:
        """Whether there may be bytes of it beside those that it shows."""
        if self.leaving.get(image, 0) > time.monotonic():
            return True
        if image in known:
            return known[image].may_be is not None
        # a task makes it, which was seen to do so just now, or will be
        running = any(not work.ended and work.image is None for work in self.works.values())
        return running or any(work.image == image for work in self.works.values())

    def teardown(self) -> None:
        """Quiet: nothing is open any more, and the bucket holds just what is readable."""
        self._still()
        owned = {
            model.id: model.data
            for model in self.models.values()
            if model.readable and any(model.locations)
        }

        def clean() -> bool:
            stored = sorted(key[:36] for key in self.world.stored())
            return stored == sorted(owned) and not self.world.unfinished()

        self._wait(clean, "the bucket to hold what is readable alone")
        for key in self.world.bucket.objects():
            assert self.world.bucket.get(key) == owned[key[:36]]
        for model in self.models.values():
            if not model.gone:
                assert self.world.ask("DELETE", f"/v2/images/{model.id}").status == 204
        self.world.source.forget()

    # looking

    def _look(self, model: Model, status: str) -> None:
        if not model.look(status):
            return
        if status != "active":
            self._leaves(model.id)
        for work in self.works.values():
            if work.image == model.id and not work.ended:
                work.ends = frozenset({"success" if status == "active" else "failure"})

    def _leaves(self, image: str) -> None:
        """Its bytes are being taken out of the store, by nobody that is waited for."""
        self.leaving[image] = time.monotonic() + SETTLED_WITHIN

    def _settled(self, image: str) -> Model:
        """The model, once it is clear again."""
        model = self.models[image]

        def clear() -> bool:
            self._look(model, self._status(image))
            return model.may_be is None

        if model.may_be is not None:
            self._wait(clear, f"{image} to be in a final state")
        return model

    def _status(self, image: str) -> str:
        reply = self.world.ask("GET", f"/v2/images/{image}")
        if reply.status == 404:
            return "deleted"
        status: str = reply.json["status"]
        return status

    def _wait_for(self, image: str, status: str) -> None:
        self._wait(lambda: self._status(image) == status, f"{image} to be {status}")

    def _wait(self, look: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + SETTLED_WITHIN
        while not look():
            assert time.monotonic() < deadline, f"waited {SETTLED_WITHIN:g} s for {what}"
            time.sleep(0.002)

    # tasks

    def _look_at_task(self, work: Work) -> None:
        reply = self.world.ask("GET", f"/v2/tasks/{work.id}", caller="admin")
        assert reply.status == 200, reply
        task = reply.json
        work.look(task["status"], task["message"])
        if work.image is None:
            work.image = task.get("image_id")
        if task["status"] == "success":
            assert task["result"] == {"image_id": work.image}
            assert work.image is not None
            if work.image not in self.models:  # made by the task itself
                model = self.models[work.image] = Model(work.image, seen="active")
                model.fill(work.data, own=True)
        elif task["status"] == "failure":
            assert task["message"], task
            if work.image is not None:
                self._leaves(work.image)

    def _find_task_of(self, image: str, status: str) -> None:
        """An image that nobody knows is one that a task makes."""
        assert status in ("queued", "saving", "active", "killed"), status
        for work in self.works.values():
            if not work.ended:
                self._look_at_task(work)
            if work.image == image:
                return
        raise AssertionError(f"{image} is of no task")

    def _ended(self, work: Work) -> None:
        def ended() -> bool:
            if not work.ended:
                self._look_at_task(work)
            return work.ended

        self._wait(ended, f"task {work.id} to end")

    def _crash(self, reboot: bool) -> None:
        """What was being done may end well or badly."""
        self.crashes += 1
        self.world.restart(reboot=reboot)
        for model in self.models.values():
            if model.may_be is not None:
                model.may_be |= {"killed"}
        for work in self.works.values():
            if not work.ended:
                work.ends |= {"failure"}
        for image in self.leaving:
            self._leaves(image)

    def _still(self) -> None:
        """Nothing is being done: a failing store meets the next step alone."""
        for image in list(self.models):
            self._settled(image)
        for work in self.works.values():
            self._ended(work)

    # asking

    def _know(self, reply: Reply) -> str:
        image_id: str = (reply.json.get("image") or reply.json)["id"]
        self.models[image_id] = Model(image_id)
        return image_id

    def _takes(self, model: Model, reply: Reply, api: str, caller: str = "owner") -> bool:
        """Whether data is taken; what is answered if it is not."""
        if model.fillable or (model.status == "queued" and caller == "admin"):
            return True
        gone = 403 if (api, caller) == ("v1", "admin") else 404  # v1 shows an admin what is gone
        assert reply.status == (gone if model.gone else 409), (model, reply)
        return False

    def _data(self, size: int) -> bytes:
        self.seed = (self.seed + 1) % 251
        self.parts_sent |= size > PART
        return pattern(size, self.seed)

    def _url(self, data: bytes) -> str:
        return self.world.source.give(Given(data))

    def _json(self, method: str, path: str, value: Any, caller: str = "owner") -> Reply:
        headers = {"Content-Type": "application/json"}
        return self.world.ask(method, path, json.dumps(value).encode(), headers, caller)

    def _patch(self, image: str, *operations: dict[str, Any], caller: str = "owner") -> Reply:
        body, headers = json.dumps(operations).encode(), {"Content-Type": V21}
        return self.world.ask("PATCH", f"/v2/images/{image}", body, headers, caller)

    def _head(self, image: str, api: str, size: int) -> bytes:
        """Of a request by which the owner fills an image."""
        return (
            f"PUT {data_path(image, api)} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {DATA}\r\n"
            f"X-Auth-Token: {self.world.callers['owner']['X-Auth-Token']}\r\n"
            f"Content-Length: {size}\r\n\r\n"
        ).encode()

    def _put(
        self,
        image: str,
        api: str,
        data: bytes,
        headers: dict[str, str] | None = None,
        caller: str = "owner",
    ) -> Reply:
        self._settled(image)
        # nothing to send is no body in API v1, unless it is chunked
        body: Any = data or iter([data])
        more = {"Content-Type": DATA, **(headers or {})}
        return self.world.ask("PUT", data_path(image, api), body, more, caller)


def data_path(image: str, api: str) -> str:
    return f"/v1/images/{image}" if api == "v1" else f"/v2/images/{image}/file"


def meta(**fields: str) -> dict[str, str]:
    return {f"x-image-meta-{name}": value for name, value in fields.items()}


def content_md5(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


def status_of(connection: socket.socket) -> int | None:
    """Of the answer that comes on it; None: it was cut."""
    with connection, suppress(OSError):
        line = connection.makefile("rb").readline()
        if line:
            return int(line.split()[1])
    return None
