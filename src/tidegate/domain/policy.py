"""Who may do what: one table, by Glance's rule names."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from tidegate.domain.errors import Forbidden, NotFound
from tidegate.domain.image import Image, Visibility


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, after identity. ``project`` None: no project (auth mode none)."""

    project: str | None = None
    roles: frozenset[str] = field(default_factory=frozenset)
    user: str | None = None

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles


Rule = Callable[[Caller, Image | None], bool]


def _admin(caller: Caller, image: Image | None) -> bool:
    return caller.is_admin


def _owns(caller: Caller, image: Image | None) -> bool:
    return image is None or (caller.project is not None and caller.project == image.owner)


def _writer(caller: Caller, image: Image | None) -> bool:
    return caller.is_admin or ("member" in caller.roles and _owns(caller, image))


def _open_to(caller: Caller, image: Image | None) -> bool:
    return (
        image is None
        or _owns(caller, image)
        or image.visibility in (Visibility.PUBLIC, Visibility.COMMUNITY)
        or (image.visibility is Visibility.SHARED and image.member_status is not None)
        or (image.visibility is Visibility.SHARED and image.owner is None)
    )


def _reader(caller: Caller, image: Image | None) -> bool:
    return caller.is_admin or (
        bool(caller.roles & {"reader", "member"}) and _open_to(caller, image)
    )


def _downloader(caller: Caller, image: Image | None) -> bool:
    return caller.is_admin or ("member" in caller.roles and _open_to(caller, image))


DEFAULT_RULES: Mapping[str, Rule] = {
    "add_image": _writer,
    "get_images": _reader,
    "get_image": _reader,
    "modify_image": _writer,
    "publicize_image": _admin,
    "communitize_image": _writer,
    "delete_image": _writer,
    "upload_image": _writer,
    "download_image": _downloader,
    "deactivate": _writer,
    "reactivate": _writer,
    "set_image_location": _writer,
    "delete_image_location": _admin,
    "get_image_location": _writer,
    "copy_from": _writer,
    "tasks_api_access": _admin,
    "get_task": _reader,
    "get_tasks": _reader,
    "add_task": _writer,
}


class Policy:
    """Answers ``allows``; ``require`` raises what the caller may know: Forbidden, or NotFound
    for an image the caller may not even see."""

    def __init__(self, rules: Mapping[str, Rule] = DEFAULT_RULES) -> None:
        self._rules = rules

    def allows(self, caller: Caller, action: str, image: Image | None = None) -> bool:
        return self._rules[action](caller, image)

    def require(self, caller: Caller, action: str, image: Image | None = None) -> None:
        if self.allows(caller, action, image):
            return
        if image is not None and not self.allows(caller, "get_image", image):
            raise NotFound(f"No image found with ID {image.id}")
        raise Forbidden(f"You are not authorized to complete {action} action.")
