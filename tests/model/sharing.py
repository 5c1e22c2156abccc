"""Who sees what: visibility, members, and a stranger who tries everything."""

from hypothesis import strategies as st
from hypothesis.stateful import rule
from tests.model.copying import import_task
from tests.model.ground import ANYBODY, APIS, CALLERS, Ground, data_path, meta
from tests.model.model import Model
from tests.model.world import DATA, Reply

PROJECTS = st.sampled_from(["p2", "p3"])
MAY_SHARE = st.sampled_from([None, False, True])


class Sharing(Ground):
    @rule(
        image=Ground.images,
        visibility=st.sampled_from(["private", "shared", "community", "public"]),
        caller=CALLERS,
    )
    def set_visibility(self, image: str, visibility: str, caller: str) -> None:
        model = self._settled(image)
        edit = {"op": "replace", "path": "/visibility", "value": visibility}
        reply = self._patch(image, edit, caller=caller)
        if model.gone:
            assert reply.status == 404, reply
        elif visibility == "public" and caller != "admin":
            assert reply.status == 403, reply
        elif visibility == "public" != model.visibility and model.claims_unread(model.locations):
            assert reply.status == 403, (model, reply)
        else:
            assert reply.status == 200, (model, reply)
            model.visibility = visibility

    def _may_share(self, model: Model, caller: str, reply: Reply) -> bool:
        """Whether it was done, as it must be for this caller."""
        if not model.shared_by(caller):
            assert reply.status == 404, (model, reply)
            return False
        if model.visibility != "shared":
            assert reply.status == 403, (model, reply)
            return False
        assert reply.status == 204, (model, reply)
        return True

    @rule(image=Ground.images, project=PROJECTS, can_share=MAY_SHARE, caller=ANYBODY)
    def share(self, image: str, project: str, can_share: bool | None, caller: str) -> None:
        model = self._settled(image)
        path = f"/v1/images/{image}/members/{project}"
        if can_share is None:
            reply = self.world.ask("PUT", path, caller=caller)
        else:
            reply = self._json("PUT", path, {"member": {"can_share": can_share}}, caller)
        if self._may_share(model, caller, reply):
            before = model.members.get(project, False)
            model.members[project] = before if can_share is None else can_share

    @rule(image=Ground.images, wanted=st.dictionaries(PROJECTS, st.booleans()), caller=ANYBODY)
    def share_with(self, image: str, wanted: dict[str, bool], caller: str) -> None:
        model = self._settled(image)
        members = [{"member_id": name, "can_share": may} for name, may in wanted.items()]
        path = f"/v1/images/{image}/members"
        reply = self._json("PUT", path, {"memberships": members}, caller)
        if self._may_share(model, caller, reply):
            model.members = dict(wanted)

    @rule(image=Ground.images, project=PROJECTS, caller=ANYBODY)
    def unshare(self, image: str, project: str, caller: str) -> None:
        model = self._settled(image)
        path = f"/v1/images/{image}/members/{project}"
        reply = self.world.ask("DELETE", path, caller=caller)
        if model.shared_by(caller) and project in model.members:
            assert reply.status == 204, (model, reply)
            del model.members[project]
        else:
            assert reply.status == 404, (model, reply)

    @rule(image=Ground.images, caller=ANYBODY)
    def list_members(self, image: str, caller: str) -> None:
        model = self._settled(image)
        reply = self.world.ask("GET", f"/v1/images/{image}/members", caller=caller)
        members = dict(model.members)
        if caller == "stranger":
            members = {name: may for name, may in members.items() if name == "p2"}
        if not model.seen_by(caller) or (caller == "stranger" and not members):
            assert reply.status == 404, (model, reply)
            return
        assert reply.status == 200, (model, reply)
        shown = {one["member_id"]: one["can_share"] for one in reply.json["members"]}
        assert shown == members, model

    @rule(image=Ground.images, project=PROJECTS, caller=ANYBODY)
    def list_shared(self, image: str, project: str, caller: str) -> None:
        self._settled(image)
        reply = self.world.ask("GET", f"/v1/shared-images/{project}", caller=caller)
        assert reply.status == 200, reply
        shown = {one["image_id"]: one["can_share"] for one in reply.json["shared_images"]}
        assert shown == {
            model.id: model.members[project]
            for model in self.models.values()
            if project in model.members
            and not model.gone
            and (caller != "stranger" or (project == "p2" and model.visibility == "shared"))
        }

    @rule(image=Ground.images, api=APIS)
    def list_as_a_stranger(self, image: str, api: str) -> None:
        """Community images are listed to who asks for them; v1 shows what is not killed."""
        for model in self.models.values():
            self._settled(model.id)
        query = "?limit=1000" if api == "v1" else "?limit=1000&member_status=all"
        reply = self.world.ask("GET", f"/{api}/images{query}", caller="stranger")
        assert reply.status == 200, reply
        assert {image["id"] for image in reply.json["images"]} == {
            model.id
            for model in self.models.values()
            if model.seen_by("stranger")
            and model.visibility != "community"
            and (api == "v2" or model.status != "killed")
        }

    @rule(
        image=Ground.images,
        deed=st.sampled_from(
            [
                "rename",
                "fill",
                "delete",
                "deactivate",
                "reactivate",
                "register",
                "publish",
                "copy",
                "import",
            ]
        ),
        api=APIS,
    )
    def trespass(self, image: str, deed: str, api: str) -> None:
        """A stranger changes nothing, and learns nothing of what is not shown to it."""
        model = self._settled(image)
        caller = "stranger"
        match deed, api:
            case ("fill", _):
                headers = {"Content-Type": DATA}
                reply = self.world.ask("PUT", data_path(image, api), b"x", headers, caller)
            case ("delete", _):
                reply = self.world.ask("DELETE", f"/{api}/images/{image}", caller=caller)
            case ("import", _):  # an administrator's call
                reply = self._json("POST", "/v2/tasks", import_task(self._url(b"x")), caller)
                assert reply.status == 403, reply
                return
            case (_, "v1"):
                headers = meta(name="stolen")
                if deed == "copy":
                    headers = {"x-glance-api-copy-from": self._url(b"x")}
                reply = self.world.ask("PUT", f"/v1/images/{image}", None, headers, caller)
            case ("deactivate" | "reactivate", _):
                path = f"/v2/images/{image}/actions/{deed}"
                reply = self.world.ask("POST", path, caller=caller)
            case ("register", _):
                value = {"url": self._url(b"x"), "metadata": {}}
                edit = {"op": "add", "path": "/locations/-", "value": value}
                reply = self._patch(image, edit, caller=caller)
            case _:
                name, value = ("visibility", "public") if deed == "publish" else ("name", "stolen")
                edit = {"op": "replace", "path": f"/{name}", "value": value}
                reply = self._patch(image, edit, caller=caller)
        shown = model.seen_by(caller) if api == "v2" else model.visibility == "public"
        assert reply.status == (403 if shown and not model.gone else 404), (model, reply)
