"""Bytes from elsewhere: API v1's copy-from and the import task, from sources good and bad; and
clones, which the store copies or which are sent."""

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, consumes, multiple, precondition, rule
from tests.model.ground import BIG, FORMATS, SIZES, Ground, meta
from tests.model.model import Model, Work
from tests.model.source import Given

GOOD = {"whole", "cut once"}
SOURCES = st.sampled_from(["whole", "whole", "cut once", "cut", "missing", "broken"])
ALWAYS = 1_000_000  # also when a server that died has it begun again
PASSING = frozenset({"queued", "saving"})


def given(kind: str, data: bytes) -> Given:
    match kind:
        case "whole":
            return Given(data)
        case "cut once":
            return Given(data, breaks=1)
        case "cut":  # which one it is cannot be told, so nobody goes on with it
            return Given(data, breaks=ALWAYS, names_itself=False)
        case "missing":
            return Given(data, status=404)
        case _:
            return Given(data, status=500)


class Copying(Ground):
    imports = Bundle("imports")

    @rule(target=Ground.images, size=SIZES, kind=SOURCES, declared=st.booleans())
    def create_copied(self, size: int, kind: str, declared: bool) -> MultipleResults[str]:
        data = self._data(size + 1)
        headers = meta(name="copied", **FORMATS) | self._copied(kind, data, declared)
        reply = self.world.ask("POST", "/v1/images", headers=headers)
        if not declared and kind in ("missing", "broken"):
            assert reply.status == (404 if kind == "missing" else 400), reply
            return multiple()
        assert reply.status == 201, reply
        image = self._know(reply)
        self._copies(self.models[image], kind, data)
        return multiple(image)

    @rule(image=Ground.images, size=SIZES, kind=SOURCES, declared=st.booleans())
    def copy(self, image: str, size: int, kind: str, declared: bool) -> None:
        model, data = self._settled(image), self._data(size + 1)
        before = model.data or b""
        headers = self._copied(kind, data, declared)
        reply = self.world.ask("PUT", f"/v1/images/{image}", headers=headers)
        if model.gone:
            assert reply.status == 404, reply
        elif model.status != "queued":
            other = declared and model.readable and len(data) != len(before)
            assert reply.status == (403 if other else 400), (model, reply)
        elif not model.fillable:
            assert reply.status == 409, (model, reply)
        elif not declared and kind in ("missing", "broken"):
            assert reply.status == (404 if kind == "missing" else 400), reply
        else:
            assert reply.status == 200, (model, reply)
            self._copies(model, kind, data)

    @rule(image=Ground.images, size=SIZES)
    def copy_deleted_meanwhile(self, image: str, size: int) -> None:
        model = self._settled(image)
        if not model.fillable:
            return
        source = self._copy_held(model, self._data(size + 1))
        assert self.world.ask("DELETE", f"/v2/images/{image}").status == 204
        source.go_on.set()
        model.may_be = None
        model.empty("deleted")
        self._leaves(image)
        for work in self.works.values():
            if work.image == image and not work.ended:
                work.ends = frozenset({"failure"})

    @rule(target=imports, size=SIZES, kind=SOURCES)
    def begin_import(self, size: int, kind: str) -> str:
        return self._import(given(kind, self._data(size + 1)), good=kind in GOOD)

    @rule(task=consumes(imports), target=Ground.images)
    def finish_import(self, task: str) -> str:
        """An image in any case (what is drawn next must not depend on a race): if it was a
        failure, one that is gone."""
        work = self.works[task]
        self._ended(work)
        assert work.image is not None
        if work.status == "failure":
            self.models[work.image] = Model(work.image, status="deleted", seen="deleted")
        return work.image

    @rule(image=Ground.images, target=Ground.images)
    def clone(self, image: str) -> MultipleResults[str]:
        work = self._clone(image)
        if work is None:
            return multiple()
        self._ended(work)
        assert work.image is not None
        return multiple(work.image)

    # crashes

    @precondition(lambda self: not self.crashes)
    @rule(image=Ground.images, share=st.sampled_from([0.0, 0.5, 0.99]), reboot=st.booleans())
    def crash_amid_a_copy(self, image: str, share: float, reboot: bool) -> None:
        model = self._settled(image)
        if not model.fillable:
            return
        source = self._copy_held(model, self._data(BIG), share)
        self._crash(reboot)
        source.go_on.set()

    @precondition(lambda self: not self.crashes)
    @rule(target=imports, share=st.sampled_from([0.0, 0.5, 0.99]), reboot=st.booleans())
    def crash_amid_an_import(self, share: float, reboot: bool) -> str:
        data = self._data(BIG)
        source = Given(data, holds_at=int(len(data) * share))
        task = self._import(source, good=True)
        assert source.reached.wait(20)
        self._crash(reboot)
        source.go_on.set()
        return task

    @precondition(lambda self: not self.crashes)
    @rule(image=Ground.images, target=imports, reboot=st.booleans())
    def crash_amid_a_clone(self, image: str, reboot: bool) -> MultipleResults[str]:
        work = self._clone(image)
        if work is None:
            return multiple()
        self._crash(reboot)
        self._ended(work)  # or another step could take its source away
        return multiple(work.id)

    # means

    def _copied(self, kind: str, data: bytes, declared: bool) -> dict[str, str]:
        headers = {"x-glance-api-copy-from": self.world.source.give(given(kind, data))}
        headers["x-glance-registry-purge-props"] = "false"
        return headers | (meta(size=str(len(data))) if declared else {})

    def _copies(self, model: Model, kind: str, data: bytes) -> None:
        """It is being filled from a source of this kind."""
        good = kind in GOOD
        model.open(data, "active" if good else "killed", passing=PASSING)
        reply = self.world.ask("GET", f"/v2/images/{model.id}/tasks")
        assert reply.status == 200, reply
        task = reply.json["tasks"][-1]
        ends = frozenset({"success" if good else "failure"})
        self.works[task["id"]] = Work(task["id"], data, ends, image=model.id)

    def _copy_held(self, model: Model, data: bytes, share: float = 0.5) -> Given:
        """Begin to fill it from a source that stops there."""
        source = Given(data, holds_at=int(len(data) * share))
        headers = {"x-glance-api-copy-from": self.world.source.give(source)}
        reply = self.world.ask("PUT", f"/v1/images/{model.id}", headers=headers)
        assert reply.status == 200, reply
        self._copies(model, "whole", data)
        assert source.reached.wait(20)
        self._wait_for(model.id, "saving")
        return source

    def _clone(self, image: str) -> Work | None:
        """Ask for a clone, which the image's owner is to have. None: that is refused."""
        model = self._settled(image)
        body = {"image_id": image, "image_properties": {"owner": "p1", "name": "cloned"}}
        reply = self._json("POST", "/v2/tasks", {"type": "clone", "input": body}, caller="admin")
        if model.status != "active" or not model.locations:
            refused = {"deleted": 404, "deactivated": 403}
            assert reply.status == refused.get(model.status, 409), (model, reply)
            return None
        assert reply.status == 201, (model, reply)
        assert model.data is not None
        self.parts_sent = True
        task: str = reply.json["id"]
        self.works[task] = Work(task, model.data, frozenset({"success"}))
        return self.works[task]

    def _import(self, source: Given, *, good: bool) -> str:
        body = import_task(self.world.source.give(source))
        reply = self._json("POST", "/v2/tasks", body, caller="admin")
        assert reply.status == 201, reply
        assert reply.json["status"] == "pending", reply
        task: str = reply.json["id"]
        self.works[task] = Work(task, source.data, frozenset({"success" if good else "failure"}))
        return task


def import_task(url: str) -> dict[str, object]:
    properties = {"name": "imported", "owner": "p1", **FORMATS}
    given = {"import_from": url, "import_from_format": "raw", "image_properties": properties}
    return {"type": "import", "input": given}
