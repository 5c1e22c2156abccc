"""The life of images as a model, and a gateway that must agree with it after each step.

Steps are drawn at random over both APIs at once: create, fill well or badly, copy and import from
elsewhere (``copying``), share, try what is forbidden (``sharing``), register, delete, deactivate,
crash, a failing store. After each of them (``ground``) every image of the run is asked for, and
must be just what the model says: its status, its size, its digests, its task, and what lies in the
bucket.
"""

import hashlib
from contextlib import suppress
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule
from tests.kit.proxy import Fault
from tests.model.copying import Copying
from tests.model.ground import (
    ANYBODY,
    APIS,
    BIG,
    CALLERS,
    FORMATS,
    SIZES,
    Ground,
    content_md5,
    data_path,
    meta,
    status_of,
)
from tests.model.model import md5
from tests.model.sharing import Sharing
from tests.model.world import DATA

images = Ground.images
MAX_LOCATIONS = 10
"""Of an image, by default."""

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


class Life(Copying, Sharing):
    # create

    @rule(target=images, api=APIS)
    def create(self, api: str) -> str:
        if api == "v2":
            reply = self._json("POST", "/v2/images", {"name": "model", **FORMATS})
        else:
            reply = self.world.ask("POST", "/v1/images", headers=meta(name="model", **FORMATS))
        assert reply.status == 201, reply
        return self._know(reply)

    @rule(target=images)
    def create_empty(self) -> str:
        reply = self.world.ask("POST", "/v1/images", headers=meta(size="0", **FORMATS))
        assert reply.status == 201, reply
        image_id = self._know(reply)
        model = self.models[image_id]
        model.status, model.data, model.was_active = "active", b"", True
        return image_id

    @rule(target=images, size=SIZES, chunked=st.booleans())
    def create_full(self, size: int, chunked: bool) -> str:
        data = self._data(size)
        headers = meta(name="model", **FORMATS) | {"Content-Type": DATA}
        headers["x-image-meta-checksum"] = md5(data)
        body: Any = iter([data]) if chunked or not data else data
        reply = self.world.ask("POST", "/v1/images", body, headers)
        assert reply.status == 201, reply
        image_id = self._know(reply)
        self.models[image_id].fill(data, own=True)
        return image_id

    @rule(target=images, size=SIZES, declared=st.booleans())
    def create_registered(self, size: int, declared: bool) -> str:
        data = self._data(size)
        headers = meta(**FORMATS) | {"x-image-meta-location": self._url(data)}
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
            headers["Content-MD5"] = content_md5(hashlib.md5(data).digest())
        reply = self._put(image, api, data, headers, caller)
        if self._takes(model, reply, api, caller):
            assert reply.status == (200 if api == "v1" else 204), reply
            model.fill(data, own=True)

    @rule(image=images, api=APIS, size=SIZES, lie=st.sampled_from(["size", "digest"]))
    def upload_of_other_bytes(self, image: str, api: str, size: int, lie: str) -> None:
        data, model = self._data(size), self.models[image]
        if lie == "digest":
            wrong = {"Repr-Digest": f"sha-256=:{content_md5(bytes(32))}:"}
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

    @rule(image=images, api=APIS, size=st.sampled_from([1000, BIG]), fault=STORE_FAULTS)
    def upload_to_a_store_that_fails(self, image: str, api: str, size: int, fault: Fault) -> None:
        self._still()
        model = self.models[image]
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
        assert status_of(connection) in (410, None)
        model.empty("deleted")
        self._leaves(image)

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
        assert status_of(connection) == 204
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
        if api == "v2" and expected == 200 and not data:
            expected = 400  # nothing is no location
        elif api == "v2" and expected == 200 and len(model.locations) == MAX_LOCATIONS:
            expected = 413
        elif expected == 200 and model.visibility == "public" and model.claims_unread([False]):
            expected = 403
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
            headers = meta(name=name) | {"x-glance-registry-purge-props": "false"}
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

    @rule(image=images, api=APIS)
    def delete_from_a_store_that_fails(self, image: str, api: str) -> None:
        """The image is gone at once, and its bytes when the store is well again."""
        self._still()
        model = self.models[image]
        for operation in ("delete", "abort"):
            self.world.proxy.on(operation, Fault(status=503, code="SlowDown"))
        reply = self.world.ask("DELETE", f"/{api}/images/{image}")
        self.world.proxy.clear()
        done = 200 if api == "v1" else 204
        assert reply.status == (404 if model.gone else done), reply
        model.empty("deleted")
        self._leaves(image)

    @rule(image=images, api=APIS, caller=ANYBODY)
    def show(self, image: str, api: str, caller: str) -> None:
        model = self._settled(image)
        if api == "v1":
            reply = self.world.ask("HEAD", f"/v1/images/{image}", caller=caller)
            status = reply.headers.get("x-image-meta-status")
        else:
            reply = self.world.ask("GET", f"/v2/images/{image}", caller=caller)
            status = reply.json.get("status")
        if model.gone and (api, caller) == ("v1", "admin"):
            assert (reply.status, status) == (200, "deleted")
        elif not model.seen_by(caller):
            assert reply.status == 404, reply
        else:
            assert (reply.status, status) == (200, model.status)

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

    @rule(image=images, api=APIS, caller=ANYBODY)
    def read(self, image: str, api: str, caller: str) -> None:
        model = self._settled(image)
        reply = self.world.ask("GET", data_path(image, api), caller=caller)
        if not model.seen_by(caller):
            assert reply.status == 404, reply
        elif model.status == "deactivated" and (api == "v1" or caller != "admin"):
            assert reply.status == 403, reply
        elif model.readable:
            assert (reply.status, reply.body == model.data) == (200, True), reply.status
        elif api == "v1" or model.status in ("deleted", "killed"):
            assert reply.status == 404, reply
        else:
            assert (reply.status, reply.body) == (204, b"")

    @rule(image=images, share=SHARES, caller=ANYBODY)
    def read_a_range(self, image: str, share: float, caller: str) -> None:
        model = self._settled(image)
        if not model.readable or not model.data:
            return
        first = int(len(model.data) * share)
        headers = {"Range": f"bytes={first}-{first + 999}"}
        reply = self.world.ask("GET", f"/v2/images/{image}/file", headers=headers, caller=caller)
        if not model.seen_by(caller):
            assert reply.status == 404, reply
        elif model.status == "deactivated" and caller != "admin":
            assert reply.status == 403, reply
        else:
            assert (reply.status, reply.body) == (206, model.data[first : first + 1000])

    # crashes

    @precondition(lambda self: not self.crashes)
    @rule(reboot=st.booleans())
    def crash(self, reboot: bool) -> None:
        self._crash(reboot)

    @precondition(lambda self: not self.crashes)
    @rule(
        image=images,
        api=APIS,
        share=st.sampled_from([0.0, 0.5, 0.99, 1.0]),
        big=st.booleans(),
        reboot=st.booleans(),
    )
    def crash_amid_an_upload(
        self, image: str, api: str, share: float, big: bool, reboot: bool
    ) -> None:
        model = self._settled(image)
        if not model.fillable:
            return
        data = self._data(BIG if big else 300_000)
        connection = self.world.open_upload(
            self._head(image, api, len(data)), data[: int(len(data) * share)]
        )
        self._wait(lambda: self._status(image) != "queued", f"{image} to be filled")
        ends = ["killed", "active"] if share == 1 else ["killed"]
        model.open(data, *ends, passing=frozenset({"saving"}))
        self._crash(reboot)
        connection.close()
