"""Who may do what: one table, by Glance's rule names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tidegate.domain.errors import Forbidden, NotFound
from tidegate.domain.image import Image, Visibility
from tidegate.domain.protections import Protections


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, after identity. ``project`` None: no project (auth mode none). ``roles`` are in
    lower case and hold the implied ones; ``service_roles`` are those of a service that asks on
    the caller's behalf, and none of the caller's. ``token`` is the id of a token, for the log."""

    project: str | None = None
    roles: frozenset[str] = field(default_factory=frozenset)
    user: str | None = None
    token: str | None = None
    service_roles: frozenset[str] = field(default_factory=frozenset)
    user_domain: str | None = None
    project_domain: str | None = None
    admin: bool | None = None  # as a policy file has it; None: by the role

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles if self.admin is None else self.admin


Rule = Callable[[Caller, Image | None, str | None], bool]
"""Caller, image, and the project whose membership it is about. No image: something of the
caller's own, or of nobody's."""


def _anyone(caller: Caller, image: Image | None, member: str | None) -> bool:
    return True


def _admin(caller: Caller, image: Image | None, member: str | None) -> bool:
    return caller.is_admin


def _service(caller: Caller, image: Image | None, member: str | None) -> bool:
    return caller.is_admin or "service" in caller.roles


def _member(caller: Caller, image: Image | None, member: str | None) -> bool:
    return caller.is_admin or ("member" in caller.roles and _owns(caller, image))


def _reader(caller: Caller, image: Image | None, member: str | None) -> bool:
    return caller.is_admin or ("reader" in caller.roles and _owns(caller, image))


def _any_member(caller: Caller, image: Image | None, member: str | None) -> bool:
    return caller.is_admin or ("member" in caller.roles and _open_to(caller, image))


def _any_reader(caller: Caller, image: Image | None, member: str | None) -> bool:
    return caller.is_admin or ("reader" in caller.roles and _open_to(caller, image))


def _service_or_member(caller: Caller, image: Image | None, member: str | None) -> bool:
    return _service(caller, image, member) or _member(caller, image, member)


def _owner_or_member(caller: Caller, image: Image | None, member: str | None) -> bool:
    return _reader(caller, image, member) or ("reader" in caller.roles and _is(caller, member))


def _invited(caller: Caller, image: Image | None, member: str | None) -> bool:
    return caller.is_admin or ("member" in caller.roles and _is(caller, member))


def _is(caller: Caller, project: str | None) -> bool:
    """Nobody's project is nobody's: None is not equal to None."""
    return caller.project is not None and caller.project == project


def _owns(caller: Caller, image: Image | None) -> bool:
    return _is(caller, caller.project if image is None else image.owner)


def _open_to(caller: Caller, image: Image | None) -> bool:
    if image is None or caller.project is None or caller.project == image.owner:
        return caller.project is not None
    if image.visibility is Visibility.SHARED:
        return image.member_status is not None or image.owner is None
    return image.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY)


DEFAULT_RULES: Mapping[str, Rule] = {
    "add_image": _member,
    "get_images": _reader,
    "get_image": _any_reader,
    "modify_image": _member,
    "publicize_image": _admin,
    "communitize_image": _member,
    "delete_image": _member,
    "upload_image": _member,
    "download_image": _any_member,
    "download_from_store": _any_member,
    "copy_image": _admin,
    "deactivate": _member,
    "reactivate": _member,
    "get_image_location": _reader,
    "set_image_location": _member,
    "delete_image_location": _admin,
    "add_image_location": _service_or_member,
    "fetch_image_location": _service,
    "add_member": _member,
    "delete_member": _member,
    "get_member": _owner_or_member,
    "get_members": _owner_or_member,
    "modify_member": _invited,
    "copy_from": _member,
    "tasks_api_access": _admin,
    "get_task": _anyone,
    "get_tasks": _anyone,
    "add_task": _anyone,
    "modify_task": _anyone,
    "stores_info_detail": _service,
    "get_metadef_namespaces": _reader,
    "get_metadef_namespace": _any_reader,
    "add_metadef_namespace": _admin,
    "modify_metadef_namespace": _admin,
    "delete_metadef_namespace": _admin,
    "get_metadef_objects": _any_reader,
    "get_metadef_object": _any_reader,
    "add_metadef_object": _admin,
    "modify_metadef_object": _admin,
    "delete_metadef_object": _admin,
    "get_metadef_properties": _any_reader,
    "get_metadef_property": _any_reader,
    "add_metadef_property": _admin,
    "modify_metadef_property": _admin,
    "remove_metadef_property": _admin,
    "get_metadef_tags": _any_reader,
    "get_metadef_tag": _any_reader,
    "add_metadef_tag": _admin,
    "add_metadef_tags": _admin,
    "modify_metadef_tag": _admin,
    "delete_metadef_tag": _admin,
    "delete_metadef_tags": _admin,
    "list_metadef_resource_types": _any_reader,
    "get_metadef_resource_type": _any_reader,
    "add_metadef_resource_type_association": _admin,
    "remove_metadef_resource_type_association": _admin,
    "cache_image": _admin,
    "cache_list": _admin,
    "cache_delete": _admin,
}
"""A task's rules open nothing alone: each call of the tasks asks ``tasks_api_access`` first. The
``metadef`` rules are about a namespace, which has an owner and a visibility like an image."""


class Policy:
    """Answers ``allows``; ``require`` raises what the caller may know: Forbidden, or NotFound
    for an image the caller may not even see. ``member``: the project whose membership is asked
    for or changed."""

    def __init__(
        self, rules: Mapping[str, Rule] = DEFAULT_RULES, protections: Protections | None = None
    ) -> None:
        self._rules = rules
        self._protections = protections

    def adopt(self, rules: Mapping[str, Rule]) -> None:
        """From now on these, all at once. Among them may be who is an administrator."""
        self._rules = rules

    def judged(self, caller: Caller) -> Caller:
        """The caller, who is an administrator or not, as the rules in use have it."""
        rule = self._rules.get("context_is_admin")
        return caller if rule is None else replace(caller, admin=rule(caller, None, None))

    def allows(
        self, caller: Caller, action: str, image: Image | None = None, *, member: str | None = None
    ) -> bool:
        return self._rules[action](caller, image, member)

    def require(
        self, caller: Caller, action: str, image: Image | None = None, *, member: str | None = None
    ) -> None:
        if self.allows(caller, action, image, member=member):
            return
        known = image is None or action == "add_image"  # what is still to be made is no secret
        if image is not None and not known and not self.allows(caller, "get_image", image):
            raise NotFound(f"No image found with ID {image.id}")
        raise Forbidden(f"You are not authorized to complete {action} action.")

    def allows_property(self, caller: Caller, operation: str, name: str) -> bool:
        """``operation``: create, read, update or delete of the property of this name."""
        return self._protections is None or self._protections.allows(caller, operation, name)

    def require_property(self, caller: Caller, operation: str, name: str) -> None:
        """Forbidden."""
        if not self.allows_property(caller, operation, name):
            raise Forbidden(f"Attribute '{name}' is reserved.")

    def readable(self, caller: Caller, image: Image) -> Image:
        """With those properties alone that the caller may read: to be shown, never to be judged."""
        if self._protections is None:
            return image
        kept = {
            name: value
            for name, value in image.properties.items()
            if self.allows_property(caller, "read", name)
        }
        return image._replace(properties=kept)
