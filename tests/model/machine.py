"""The life of images as a model, and a gateway that must agree with it after each step.

Steps are drawn at random over both APIs at once: create, fill well or badly, register, delete,
deactivate, crash, a failing store. After each of them every image of the run is asked for, and must
be just what the model says: its status, its size, its digests, its bytes, what lies in the bucket.
"""

import base64
import hashlib
import json
import socket
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule
from tests.kit.command import wait_for
from tests.kit.proxy import Fault
from tests.kit.sources import pattern
from tests.model.world import DATA, SETTLED_WITHIN, Reply, World

V21 = "application/openstack-images-v2.1-json-patch"
FORMATS = {"disk_format": "raw", "container_format": "bare"}
SIZES = st.sampled_from([0, 1, 1000, 70_001, 300_000, 6 * 2**20])
APIS = st.sampled_from(["v1", "v2"])
CALLERS = st.sampled_from(["owner", "admin"])
SHARES = st.sampled_from([0.0, 0.01, 0.5, 0.99])
STORE_FAULTS = st.sampled_from(
    [
        Fault(status=500),
        Fault(status=503, code="SlowDown"),
        Fault(status=403, code="AccessDenied"),
        Fault(reset_request=0.5),
        Fault(flip_request=0.5),
    ]
)


@dataclass
class Model:
    """What an image must be. ``may_be``: the statuses it can have where a crash left the outcome
    open (None: it is ``status``). ``locations``: of each, whether it is our own object."""

    id: str
    status: str = "queued"
    data: bytes | None = None
    locations: list[bool] = field(default_factory=list)
    was_active: bool = False
    may_be: frozenset[str] | None = None
    closed_by_admin: bool = False
    digests: tuple[str, str] = ("", "")

    @property
    def gone(self) -> bool:
        return self.status == "deleted"

    @property
    def fillable(self) -> bool:
        """By its owner."""
        return self.status == "queued" and not self.was_active

    @property
    def readable(self) -> bool:
        return self.status in ("active", "deactivated")

    def fill(self, data: bytes, *, own: bool) -> None:
        self.status, self.data, self.was_active = "active", data, True
        self.digests = _md5(data), hashlib.sha512(data).hexdigest()
        self.locations = [own]

    def empty(self, status: str) -> None:
        self.status, self.data, self.locations = status, None, []


class Life(RuleBasedStateMachine):
    """``world`` is set by who runs it."""

    world: World
    steps = 0
    """Steps of all runs together."""

    images = Bundle("images")

    def __init__(self) -> None:
        super().__init__()
        self.models: dict[str, Model] = {}
        self.seed = 0
        self.crashes = 0

    # create

    @rule(target=images, api=APIS)
    def create(self, api: str) -> str:
        if api == "v2":
            reply = self._json("POST", "/v2/images", {"name": "model", **FORMATS})
        else:
            reply = self.world.ask("POST", "/v1/images", headers=_meta(name="model", **FORMATS))
        assert reply.status == 201, reply
        return self._know(reply)

    @rule(target=images)
    def create_empty(self) -> str:
        reply = self.world.ask("POST", "/v1/images", headers=_meta(size="0", **FORMATS))
        assert reply.status == 201, reply
        image_id = self._know(reply)
        model = self.models[image_id]
        model.status, model.data, model.was_active = "active", b"", True
        return image_id

    @rule(target=images, size=SIZES, chunked=st.booleans())
    def create_full(self, size: int, chunked: bool) -> str:
        data = self._data(size)
        headers = _meta(name="model", **FORMATS) | {"Content-Type": DATA}
        headers["x-image-meta-checksum"] = _md5(data)
        body: Any = iter([data]) if chunked or not data else data
        reply = self.world.ask("POST", "/v1/images", body, headers)
        assert reply.status == 201, reply
        image_id = self._know(reply)
        self.models[image_id].fill(data, own=True)
        return image_id

    @rule(target=images, size=SIZES, declared=st.booleans())
    def create_registered(self, size: int, declared: bool) -> str:
        data = self._data(size)
        headers = _meta(**FORMATS) | {"x-image-meta-location": self._url(data)}
        if declared and data:
            headers["x-image-meta-size"] = str(size)
        reply = self.world.ask("POST", "/v1/images", headers=headers)
        assert reply.status == 201, reply
        image_id = self._know(reply)
        self.models[image_id].fill(data, own=False)
        return image_id

    @rule(image=images)
    def create_again(self, image: str) -> None:
        reply = self._json("POST", "/v2/images", {"id": image})
        assert reply.status == 409, reply

    # fill

    @rule(image=images, api=APIS, size=SIZES, said=st.booleans(), caller=CALLERS)
    def upload(self, image: str, api: str, size: int, said: bool, caller: str) -> None:
        data, model = self._data(size), self.models[image]
        headers = {}
        if said:
            headers["Content-MD5"] = base64.b64encode(hashlib.md5(data).digest()).decode()
        reply = self._put(image, api, data, headers, caller)
        if self._takes(model, reply, api, caller):
            assert reply.status == (200 if api == "v1" else 204), reply
            model.fill(data, own=True)

    @rule(image=images, api=APIS, size=SIZES, lie=st.sampled_from(["size", "digest"]))
    def upload_of_other_bytes(self, image: str, api: str, size: int, lie: str) -> None:
        data, model = self._data(size), self.models[image]
        if lie == "digest":
            wrong = {"Repr-Digest": f"sha-256=:{base64.b64encode(bytes(32)).decode()}:"}
        elif api == "v1":
            wrong = {"x-image-meta-size": str(size + 1)}
        else:
            wrong = {"x-openstack-image-size": str(size + 1)}
        reply = self._put(image, api, data, wrong)
        if lie == "size" and api == "v1" and model.readable and size + 1 != len(model.data or b""):
            assert reply.status == 403, reply  # what is fixed may not be told anew
        elif self._takes(model, reply, api):
            assert reply.status == 400, reply
            model.empty("killed")

    @rule(image=images, api=APIS, share=SHARES)
    def upload_cut_by_the_client(self, image: str, api: str, share: float) -> None:
        model = self._settled(image)
        taken = model.fillable
        size = 300_000
        connection = self.world.open_upload(
            self._head(image, api, size), self._data(size)[: int(size * share)]
        )
        if not taken:
            connection.close()
            return
        self._wait_for(image, "saving")
        connection.close()
        self._wait_for(image, "killed")
        model.empty("killed")

    @rule(image=images, api=APIS, size=st.sampled_from([1000, 6 * 2**20]), fault=STORE_FAULTS)
    def upload_to_a_store_that_fails(self, image: str, api: str, size: int, fault: Fault) -> None:
        model = self._settled(image)
        for operation in ("put", "part"):
            self.world.proxy.on(operation, fault)
        reply = self._put(image, api, self._data(size))
        self.world.proxy.clear()
        if self._takes(model, reply, api):
            assert reply.status == 502, reply
            model.empty("killed")

    @rule(image=images, size=SIZES)
    def upload_deleted_meanwhile(self, image: str, size: int) -> None:
        model = self._settled(image)
        if not model.fillable:
            return
        data = self._data(size + 1)
        connection = self.world.open_upload(self._head(image, "v2", size + 1), data[:size])
        self._wait_for(image, "saving")
        assert self.world.ask("DELETE", f"/v2/images/{image}").status == 204
        with suppress(OSError):
            connection.sendall(data[size:])
        assert _status_of(connection) in (410, None)
        model.empty("deleted")

    @rule(image=images)
    def two_uploads_at_once(self, image: str) -> None:
        model = self._settled(image)
        if not model.fillable:
            return
        first, second = self._data(300_000), self._data(1000)
        connection = self.world.open_upload(self._head(image, "v2", len(first)), first[:1000])
        self._wait_for(image, "saving")
        assert self._put(image, "v2", second).status == 409
        assert self._put(image, "v1", second).status == 409
        connection.sendall(first[1000:])
        assert _status_of(connection) == 204
        model.fill(first, own=True)

    # locations

    @rule(image=images, api=APIS, size=SIZES)
    def register(self, image: str, api: str, size: int) -> None:
        model = self._settled(image)
        data = model.data if model.readable and model.data is not None else self._data(size)
        if api == "v1":
            headers = {"x-image-meta-location": self._url(data)}
            headers["x-glance-registry-purge-props"] = "false"
            reply = self.world.ask("PUT", f"/v1/images/{image}", headers=headers)
            expected = {"queued": 200, "deleted": 404}.get(model.status, 400)
        else:
            value = {"url": self._url(data), "metadata": {}}
            reply = self._patch(image, {"op": "add", "path": "/locations/-", "value": value})
            expected = {"queued": 200, "active": 200, "deleted": 404}.get(model.status, 409)
        if model.status == "queued" and not model.fillable:
            expected = 409  # its bytes may not be replaced
        assert reply.status == expected, (model, reply)
        if reply.status == 200 and model.status == "queued":
            model.fill(data, own=False)
        elif reply.status == 200:
            model.locations.append(False)
            model.data = data

    @rule(image=images)
    def remove_the_first_location(self, image: str) -> None:
        model = self._settled(image)
        edit = {"op": "remove", "path": "/locations/0"}
        assert self._patch(image, edit).status == (404 if model.gone else 403)
        reply = self._patch(image, edit, caller="admin")
        if model.gone:
            assert reply.status == 404, reply
        elif model.status != "active":
            assert reply.status == 409, reply
        elif not model.locations:
            assert reply.status == 400, reply
        else:
            assert reply.status == 200, reply
            del model.locations[0]
            if not model.locations:
                model.empty("queued")

    # the rest of a life

    @rule(image=images, name=st.sampled_from(["a", "b"]), api=APIS)
    def rename(self, image: str, name: str, api: str) -> None:
        model = self._settled(image)
        if api == "v2":
            reply = self._patch(image, {"op": "replace", "path": "/name", "value": name})
        else:
            headers = _meta(name=name) | {"x-glance-registry-purge-props": "false"}
            reply = self.world.ask("PUT", f"/v1/images/{image}", headers=headers)
        assert reply.status == (404 if model.gone else 200), reply

    @rule(image=images, name=st.sampled_from(["status", "size", "checksum", "id"]))
    def set_what_is_not_theirs(self, image: str, name: str) -> None:
        model = self._settled(image)
        reply = self._patch(image, {"op": "replace", "path": f"/{name}", "value": "active"})
        assert reply.status in (403, 404), (model, reply)

    @rule(image=images, api=APIS)
    def delete(self, image: str, api: str) -> None:
        model = self._settled(image)
        reply = self.world.ask("DELETE", f"/{api}/images/{image}")
        done = 200 if api == "v1" else 204
        assert reply.status == (404 if model.gone else done), reply
        model.empty("deleted")

    @rule(image=images, caller=CALLERS)
    def deactivate(self, image: str, caller: str) -> None:
        model = self._settled(image)
        reply = self.world.ask("POST", f"/v2/images/{image}/actions/deactivate", caller=caller)
        if not model.readable:
            assert reply.status == (404 if model.gone else 403), (model, reply)
            return
        assert reply.status == 204, reply
        model.closed_by_admin |= caller == "admin"
        model.status = "deactivated"

    @rule(image=images, caller=CALLERS)
    def reactivate(self, image: str, caller: str) -> None:
        model = self._settled(image)
        reply = self.world.ask("POST", f"/v2/images/{image}/actions/reactivate", caller=caller)
        if not model.readable:
            assert reply.status == (404 if model.gone else 403), (model, reply)
        elif model.closed_by_admin and caller != "admin":
            assert reply.status == 403, reply
        else:
            assert reply.status == 204, reply
            model.status, model.closed_by_admin = "active", False

    @rule(image=images, api=APIS, caller=st.sampled_from(["owner", "admin", "stranger"]))
    def read(self, image: str, api: str, caller: str) -> None:
        model = self._settled(image)
        path = f"/v1/images/{image}" if api == "v1" else f"/v2/images/{image}/file"
        reply = self.world.ask("GET", path, caller=caller)
        if caller == "stranger":
            assert reply.status == 404, reply
        elif model.status == "deactivated" and (api == "v1" or caller == "owner"):
            assert reply.status == 403, reply
        elif model.readable:
            assert (reply.status, reply.body == model.data) == (200, True), reply.status
        elif api == "v1" or model.status in ("deleted", "killed"):
            assert reply.status == 404, reply
        else:
            assert (reply.status, reply.body) == (204, b"")

    @rule(image=images, share=SHARES, caller=CALLERS)
    def read_a_range(self, image: str, share: float, caller: str) -> None:
        model = self._settled(image)
        if not model.readable or not model.data:
            return
        first = int(len(model.data) * share)
        headers = {"Range": f"bytes={first}-{first + 999}"}
        reply = self.world.ask("GET", f"/v2/images/{image}/file", headers=headers, caller=caller)
        if model.status == "deactivated" and caller == "owner":
            assert reply.status == 403, reply
        else:
            assert (reply.status, reply.body) == (206, model.data[first : first + 1000])

    # crashes

    @precondition(lambda self: not self.crashes)
    @rule()
    def crash(self) -> None:
        self.crashes += 1
        self.world.restart()

    @precondition(lambda self: not self.crashes)
    @rule(image=images, api=APIS, share=st.sampled_from([0.0, 0.5, 0.99, 1.0]), big=st.booleans())
    def crash_amid_an_upload(self, image: str, api: str, share: float, big: bool) -> None:
        model = self._settled(image)
        if not model.fillable:
            return
        self.crashes += 1
        data = self._data(6 * 2**20 if big else 300_000)
        connection = self.world.open_upload(
            self._head(image, api, len(data)), data[: int(len(data) * share)]
        )
        wait_for(lambda: self._status(image) != "queued", f"{image} to be filled")
        self.world.restart()
        connection.close()
        model.empty("saving")
        model.data = data
        model.may_be = frozenset({"saving", "killed"} | ({"active"} if share == 1 else set()))

    # what must hold

    @invariant()
    def the_gateway_agrees(self) -> None:
        Life.steps += 1
        reply = self.world.ask("GET", "/v2/images?limit=1000&owner=p1", caller="admin")
        assert reply.status == 200, reply
        images = {image["id"]: image for image in reply.json["images"]}
        assert images.keys() == {model.id for model in self.models.values() if not model.gone}
        for image_id, image in images.items():
            self._look(self.models[image_id], image["status"])
            self._agree(self.models[image_id], image)

    def teardown(self) -> None:
        """Quiet: what a crash left is settled, and the bucket holds just what is readable."""
        for model in self.models.values():
            self._settled(model.id)
        owned = {
            model.id: model.data
            for model in self.models.values()
            if model.readable and any(model.locations)
        }

        def clean() -> bool:
            unfinished = [key for key, _ in self.world.bucket.unfinished()]
            return self._stored() == sorted(owned) and not set(self.models) & {
                key[:36] for key in unfinished
            }

        wait_for(clean, "the bucket to hold what is readable alone", SETTLED_WITHIN)
        for key in self.world.bucket.objects():
            image_id = key.partition("/")[0]
            if image_id in owned:
                data = owned[image_id]
                assert data is not None
                assert self.world.bucket.get(key) == data
        for model in self.models.values():
            if not model.gone:
                assert self.world.ask("DELETE", f"/v2/images/{model.id}").status == 204

    def _stored(self) -> list[str]:
        """Of the objects of this run, the ids of their images."""
        keys = self.world.bucket.objects()
        return sorted(key[:36] for key in keys if key[:36] in self.models)

    def _look(self, model: Model, status: str) -> None:
        """Learn what became of an image that a crash left open."""
        if model.may_be is None:
            return
        assert status in model.may_be, (model.id, status)
        if status != "saving":
            model.may_be = None
            data = model.data
            model.empty(status)
            if status == "active":
                assert data is not None
                model.fill(data, own=True)

    def _agree(self, model: Model, image: dict[str, Any]) -> None:
        if model.may_be is not None:
            return
        assert image["status"] == model.status, (model.id, image["status"], model.status)
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

    # means

    def _know(self, reply: Reply) -> str:
        image_id: str = (reply.json.get("image") or reply.json)["id"]
        self.models[image_id] = Model(image_id)
        return image_id

    def _settled(self, image: str) -> Model:
        """The model, once it is clear again."""
        model = self.models[image]

        def clear() -> bool:
            self._look(model, self._status(image))
            return model.may_be is None

        wait_for(clear, f"{image} to be in a final state", SETTLED_WITHIN)
        return model

    def _takes(self, model: Model, reply: Reply, api: str, caller: str = "owner") -> bool:
        """Whether data is taken; what is answered if it is not."""
        if model.fillable or (model.status == "queued" and caller == "admin"):
            return True
        gone = 403 if (api, caller) == ("v1", "admin") else 404  # v1 shows an admin what is gone
        assert reply.status == (gone if model.gone else 409), (model, reply)
        return False

    def _status(self, image: str) -> str:
        reply = self.world.ask("GET", f"/v2/images/{image}")
        if reply.status == 404:
            return "deleted"
        status: str = reply.json["status"]
        return status

    def _wait_for(self, image: str, status: str) -> None:
        wait_for(lambda: self._status(image) == status, f"{image} to be {status}", 20)

    def _data(self, size: int) -> bytes:
        self.seed = (self.seed + 1) % 251
        return pattern(size, self.seed)

    def _url(self, data: bytes) -> str:
        return self.world.source.give(f"/{uuid4().hex}", data)

    def _json(self, method: str, path: str, value: Any) -> Reply:
        headers = {"Content-Type": "application/json"}
        return self.world.ask(method, path, json.dumps(value).encode(), headers)

    def _patch(self, image: str, *operations: dict[str, Any], caller: str = "owner") -> Reply:
        body, headers = json.dumps(operations).encode(), {"Content-Type": V21}
        return self.world.ask("PATCH", f"/v2/images/{image}", body, headers, caller)

    def _head(self, image: str, api: str, size: int) -> bytes:
        """Of a request by which the owner fills an image."""
        path = f"/v1/images/{image}" if api == "v1" else f"/v2/images/{image}/file"
        return (
            f"PUT {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {DATA}\r\n"
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
        path = f"/v1/images/{image}" if api == "v1" else f"/v2/images/{image}/file"
        # nothing to send is no body in API v1, unless it is chunked
        body: Any = data or iter([data])
        return self.world.ask("PUT", path, body, {"Content-Type": DATA, **(headers or {})}, caller)


def _meta(**fields: str) -> dict[str, str]:
    return {f"x-image-meta-{name}": value for name, value in fields.items()}


def _md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def _status_of(connection: socket.socket) -> int | None:
    """Of the answer that comes on it; None: it was cut."""
    with connection, suppress(OSError):
        line = connection.makefile("rb").readline()
        if line:
            return int(line.split()[1])
    return None
