"""Who may do what: every rule for every kind of caller, against every kind of image."""

import pytest

from tidegate.domain.errors import Forbidden, NotFound
from tidegate.domain.image import Image, Visibility
from tidegate.domain.policy import DEFAULT_RULES, Caller, Policy

V = Visibility
MANAGER = frozenset({"manager", "member", "reader"})
MEMBER = frozenset({"member", "reader"})
READER = frozenset({"reader"})

CALLERS = {
    "admin": Caller(project="elsewhere", roles=MANAGER | {"admin"}),
    "admin without a project": Caller(roles=MANAGER | {"admin"}),
    "manager of the owner": Caller(project="owner", roles=MANAGER),
    "member of the owner": Caller(project="owner", roles=MEMBER),
    "reader of the owner": Caller(project="owner", roles=READER),
    "member of another": Caller(project="another", roles=MEMBER),
    "reader of another": Caller(project="another", roles=READER),
    "member of an invited": Caller(project="invited", roles=MEMBER),
    "reader of an invited": Caller(project="invited", roles=READER),
    "member without a project": Caller(roles=MEMBER),
    "service": Caller(project="service", roles=frozenset({"service"})),
    "a role of no meaning": Caller(project="owner", roles=frozenset({"guest"})),
}

ADMINS = {"admin", "admin without a project"}
WRITERS = ADMINS | {"manager of the owner", "member of the owner"}
READERS = WRITERS | {"reader of the owner"}
MEMBERS_OF_ANY = WRITERS | {"member of another", "member of an invited"}
READERS_OF_ANY = READERS | MEMBERS_OF_ANY | {"reader of another", "reader of an invited"}
INVITED_MEMBERS = WRITERS | {"member of an invited"}
INVITED_READERS = READERS | {"member of an invited", "reader of an invited"}
EVERYBODY = set(CALLERS)


def every(allowed: set[str]) -> dict[Visibility, set[str]]:
    return dict.fromkeys(V, allowed)


DOWNLOADERS = {
    V.PRIVATE: WRITERS, V.SHARED: INVITED_MEMBERS,
    V.COMMUNITY: MEMBERS_OF_ANY, V.PUBLIC: MEMBERS_OF_ANY,
}  # fmt: skip

SEEN = {
    V.PRIVATE: READERS, V.SHARED: INVITED_READERS,
    V.COMMUNITY: READERS_OF_ANY, V.PUBLIC: READERS_OF_ANY,
}  # fmt: skip
BY_VISIBILITY = {
    "get_image": SEEN,
    "download_image": DOWNLOADERS,
    "download_from_store": DOWNLOADERS,
    **dict.fromkeys(
        ("add_image", "modify_image", "communitize_image", "delete_image", "upload_image",
         "copy_from", "deactivate", "reactivate", "set_image_location", "add_member",
         "delete_member"),
        every(WRITERS),
    ),
    **dict.fromkeys(
        ("publicize_image", "delete_image_location", "copy_image", "tasks_api_access",
         "cache_image", "cache_list", "cache_delete"),
        every(ADMINS),
    ),
    **dict.fromkeys(
        ("get_images", "get_image_location", "get_metadef_namespaces"), every(READERS)
    ),
    # a namespace is public or private
    **dict.fromkeys(
        ("get_metadef_namespace", "get_metadef_objects", "get_metadef_object",
         "get_metadef_properties", "get_metadef_property", "get_metadef_tags", "get_metadef_tag",
         "list_metadef_resource_types", "get_metadef_resource_type"),
        SEEN,
    ),
    **dict.fromkeys(
        ("add_metadef_namespace", "modify_metadef_namespace", "delete_metadef_namespace",
         "add_metadef_object", "modify_metadef_object", "delete_metadef_object",
         "add_metadef_property", "modify_metadef_property", "remove_metadef_property",
         "add_metadef_tag", "add_metadef_tags", "modify_metadef_tag", "delete_metadef_tag",
         "delete_metadef_tags", "add_metadef_resource_type_association",
         "remove_metadef_resource_type_association"),
        every(ADMINS),
    ),
    # of the membership of the invited project
    **dict.fromkeys(("get_member", "get_members"), every(INVITED_READERS)),
    "modify_member": every(ADMINS | {"member of an invited"}),
    "add_image_location": every(WRITERS | {"service"}),
    **dict.fromkeys(("fetch_image_location", "stores_info_detail"), every(ADMINS | {"service"})),
    **dict.fromkeys(("get_task", "get_tasks", "add_task", "modify_task"), every(EVERYBODY)),
}  # fmt: skip


def image(visibility: Visibility, caller: str) -> Image:
    status = "pending" if "invited" in caller else None
    return Image(id="i", owner="owner", visibility=visibility, member_status=status)


def test_every_rule_is_in_this_table() -> None:
    assert set(BY_VISIBILITY) == set(DEFAULT_RULES)


@pytest.mark.parametrize("rule", BY_VISIBILITY)
@pytest.mark.parametrize("caller", CALLERS)
def test_a_rule(rule: str, caller: str) -> None:
    allowed = {
        visibility
        for visibility in V
        if Policy().allows(CALLERS[caller], rule, image(visibility, caller), member="invited")
    }
    assert allowed == {v for v, callers in BY_VISIBILITY[rule].items() if caller in callers}


@pytest.mark.parametrize("rule", DEFAULT_RULES)
@pytest.mark.parametrize("visibility", [V.PRIVATE, V.COMMUNITY])
def test_who_has_no_project_does_not_own_what_nobody_owns(
    rule: str, visibility: Visibility
) -> None:
    caller = CALLERS["member without a project"]
    ownerless = Image(id="i", owner=None, visibility=visibility)
    allowed = Policy().allows(caller, rule, ownerless, member=None)
    assert allowed == (rule in ("get_task", "get_tasks", "add_task", "modify_task"))


def test_a_shared_image_of_nobody_is_read_by_every_project() -> None:
    ownerless = Image(id="i", owner=None, visibility=V.SHARED)
    assert Policy().allows(CALLERS["member of another"], "download_image", ownerless)
    assert not Policy().allows(CALLERS["member of another"], "modify_image", ownerless)


def test_a_list_is_of_the_callers_own_project() -> None:
    allowed = {name for name, caller in CALLERS.items() if Policy().allows(caller, "get_images")}
    assert allowed == READERS_OF_ANY


def test_what_may_be_seen_is_forbidden_and_what_may_not_is_not_found() -> None:
    reader, stranger = CALLERS["reader of the owner"], CALLERS["member of another"]
    private = Image(id="i", owner="owner", visibility=V.PRIVATE)
    with pytest.raises(Forbidden, match=r"^You are not authorized to complete deactivate action\."):
        Policy().require(reader, "deactivate", private)
    with pytest.raises(NotFound, match=r"^No image found with ID i$"):
        Policy().require(stranger, "deactivate", private)


def test_an_image_that_is_still_to_be_made_is_no_secret() -> None:
    proposed = Image(id="i", owner=None, visibility=V.PRIVATE)
    with pytest.raises(Forbidden):
        Policy().require(Caller(user="u"), "add_image", proposed)


def test_a_rule_can_be_another_one() -> None:
    policy = Policy({**DEFAULT_RULES, "deactivate": DEFAULT_RULES["publicize_image"]})
    private = Image(id="i", owner="owner", visibility=V.PRIVATE)
    assert not policy.allows(CALLERS["member of the owner"], "deactivate", private)
