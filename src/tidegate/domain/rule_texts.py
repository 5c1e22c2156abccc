"""The built-in rules in the language of policy files, and the names that such a file may have."""

import re
from collections.abc import Mapping

from tidegate.domain.policy import DEFAULT_RULES

_OWN_READ = "role:reader and project_id:%(project_id)s"
_OWN_WRITE = "role:member and project_id:%(project_id)s"
_OPEN = (
    "(project_id:%(project_id)s or 'community':%(visibility)s or 'public':%(visibility)s"
    " or 'shared':%(visibility)s)"
)
_ADMIN = "rule:context_is_admin"
_WRITERS = f"{_ADMIN} or ({_OWN_WRITE})"
_READERS = f"{_ADMIN} or ({_OWN_READ})"
_OPEN_READERS = f"{_ADMIN} or (role:reader and {_OPEN})"
_MEMBERS_READERS = (
    f"{_ADMIN} or role:reader and (project_id:%(project_id)s or project_id:%(member_id)s)"
)

TEXTS: Mapping[str, str] = {
    "default": "",
    "context_is_admin": "role:admin",
    "service_api": "role:service or role:admin",
    "add_image": f"{_ADMIN} or ({_OWN_WRITE} and project_id:%(owner)s)",
    "get_images": _READERS,
    "get_image": _OPEN_READERS,
    "modify_image": _WRITERS,
    "publicize_image": _ADMIN,
    "communitize_image": _WRITERS,
    "delete_image": _WRITERS,
    "upload_image": _WRITERS,
    "download_image": f"{_ADMIN} or (role:member and {_OPEN})",
    "download_from_store": f"{_ADMIN} or (role:member and {_OPEN})",
    "copy_image": _ADMIN,
    "deactivate": _WRITERS,
    "reactivate": _WRITERS,
    "get_image_location": _READERS,
    "set_image_location": _WRITERS,
    "delete_image_location": _ADMIN,
    "add_image_location": f"rule:service_api or ({_OWN_WRITE} and project_id:%(owner)s)",
    "fetch_image_location": "rule:service_api",
    "add_member": _WRITERS,
    "delete_member": _WRITERS,
    "get_member": _MEMBERS_READERS,
    "get_members": _MEMBERS_READERS,
    "modify_member": f"{_ADMIN} or (role:member and project_id:%(member_id)s)",
    "copy_from": _WRITERS,
    "tasks_api_access": _ADMIN,
    "get_task": "rule:default",
    "get_tasks": "rule:default",
    "add_task": "rule:default",
    "modify_task": "rule:default",
    "stores_info_detail": f"{_ADMIN} or rule:service_api",
    "cache_image": _ADMIN,
    "cache_list": _ADMIN,
    "cache_delete": _ADMIN,
    "get_metadef_namespaces": _READERS,
    "get_metadef_namespace": _OPEN_READERS,
    "add_metadef_namespace": _ADMIN,
    "modify_metadef_namespace": _ADMIN,
    "delete_metadef_namespace": _ADMIN,
    "get_metadef_objects": _OPEN_READERS,
    "get_metadef_object": _OPEN_READERS,
    "add_metadef_object": _ADMIN,
    "modify_metadef_object": _ADMIN,
    "delete_metadef_object": _ADMIN,
    "get_metadef_properties": _OPEN_READERS,
    "get_metadef_property": _OPEN_READERS,
    "add_metadef_property": _ADMIN,
    "modify_metadef_property": _ADMIN,
    "remove_metadef_property": _ADMIN,
    "get_metadef_tags": _OPEN_READERS,
    "get_metadef_tag": _OPEN_READERS,
    "add_metadef_tag": _ADMIN,
    "add_metadef_tags": _ADMIN,
    "modify_metadef_tag": _ADMIN,
    "delete_metadef_tag": _ADMIN,
    "delete_metadef_tags": _ADMIN,
    "list_metadef_resource_types": _OPEN_READERS,
    "get_metadef_resource_type": _OPEN_READERS,
    "add_metadef_resource_type_association": _ADMIN,
    "remove_metadef_resource_type_association": _ADMIN,
}
"""The built-in rules as texts; a test holds them to ``DEFAULT_RULES``, which decide. Whom an image
is shared with is the catalog's answer, before any rule is asked."""

HELPERS = frozenset(TEXTS) - frozenset(DEFAULT_RULES)
"""What guards nothing by itself and is used by others."""

ELSEWHERE = re.compile(
    r"metadef_(default|admin)|modify_metadef_resource_type_association|get_metadef_resource_types?"
    r"|manage_image_cache|list_cached_nodes"
)
"""Names of Glance's that guard nothing here."""
