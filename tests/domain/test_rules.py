"""The language of policy files, beside oslo.policy's own reading of it."""

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oslo_policy import _parser
from tests.domain.test_policy import CALLERS, image

from tidegate.domain.image import Image, Visibility
from tidegate.domain.policy import DEFAULT_RULES, Caller, Policy
from tidegate.domain.rule_texts import HELPERS, TEXTS
from tidegate.domain.rules import RuleError, Text, compiled, references

MEMBER = Caller(
    project="p1", roles=frozenset({"member", "reader"}), user="u1",
    user_domain="d1", project_domain="d2",
)  # fmt: skip
IMAGE = Image(
    id="i1", owner="p1", visibility=Visibility.PUBLIC, properties={"team": "member", "lead": "u1"}
)


def allows(
    text: Text, caller: Caller = MEMBER, image: Image | None = IMAGE, member: str | None = None
) -> bool:
    return Policy(compiled({"get_image": text})).allows(caller, "get_image", image, member=member)


def why(**texts: Text) -> str:
    with pytest.raises(RuleError) as refused:
        compiled(texts)
    return str(refused.value)


# the built-in rules


def test_every_rule_has_a_text() -> None:
    assert set(TEXTS) - HELPERS == set(DEFAULT_RULES)
    assert {"default", "context_is_admin", "service_api"} == HELPERS


@pytest.mark.parametrize("rule", DEFAULT_RULES)
@pytest.mark.parametrize("caller", CALLERS)
def test_the_texts_say_what_is_built_in(rule: str, caller: str) -> None:
    by_text = Policy(compiled(TEXTS))
    who = CALLERS[caller]
    for visibility in Visibility:
        for member in (None, "invited"):
            about = image(visibility, caller)
            if not _may_be_asked(who, about):
                continue
            assert by_text.allows(who, rule, about, member=member) == Policy().allows(
                who, rule, about, member=member
            ), visibility
    assert by_text.allows(who, rule) == Policy().allows(who, rule)


def _may_be_asked(caller: Caller, about: Image) -> bool:
    """Roles are those in a project; and an image is shared with those whom the catalog shows it."""
    if caller.project is None:
        return caller.is_admin
    own = caller.is_admin or caller.project == about.owner
    return about.visibility is not Visibility.SHARED or own or about.member_status is not None


def test_what_is_not_replaced_is_as_it_was() -> None:
    rules = compiled({"deactivate": "rule:context_is_admin"})
    assert {name for name in rules if rules[name] is not DEFAULT_RULES[name]} == {"deactivate"}


def test_what_asks_a_replaced_rule_heeds_it() -> None:
    policy = Policy(compiled({"service_api": "role:nova", "default": "!"}))
    nova, service = (Caller(project="s", roles=frozenset({role})) for role in ("nova", "service"))
    assert policy.allows(nova, "fetch_image_location", IMAGE)
    assert not policy.allows(service, "fetch_image_location", IMAGE)
    assert not policy.allows(service, "get_task")


def test_who_is_an_administrator_can_be_said() -> None:
    policy = Policy(compiled({"context_is_admin": "role:cloud_admin"}))
    cloud, admin = (
        Caller(project="x", roles=frozenset({role})) for role in ("cloud_admin", "admin")
    )
    assert policy.judged(cloud).is_admin
    assert not policy.judged(admin).is_admin
    assert policy.allows(policy.judged(cloud), "delete_image", IMAGE)
    assert not policy.allows(policy.judged(admin), "delete_image", IMAGE)
    assert Policy().judged(admin) is admin


# what a text means


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        ("@", True), ("!", False), ("", True), ([], True), ([[]], False),
        ("role:member", True), ("role:MEMBER", True), ("role:admin", False),
        ("role:%(team)s", True), ("role:%(nothing)s", False),
        ("project_id:%(owner)s", True), ("tenant:%(owner)s", True), ("project_id:p1", True),
        ("project_id:%(id)s", False), ("user_id:%(lead)s", True), ("user_id:%(nothing)s", False),
        ("user_domain_id:d1", True), ("project_domain_id:d1", False),
        ("'public':%(visibility)s", True), ('"public":%(visibility)s', True),
        ("'private':%(visibility)s", False), ("False:%(protected)s", True),
        ("'queued':%(status)s", True), ("None:%(name)s", True), ("None:%(owner)s", False),
        ("None:%(nothing)s", False), ("is_admin:False", True), ("is_admin:0", False),
        ("system_scope:all", False), ("roles:reader", True), ("service_roles:service", False),
        ("user_id:u%(nothing)s", False),
        ("'i1-p1':%(id)s-%(owner)s", True), ("'a%b':a%%b", True),
        ("not role:admin", True), ("not not role:admin", False), ("NOT role:admin", True),
        ("role:admin or role:member", True), ("role:admin OR role:member", True),
        ("role:admin and role:x or role:member", True), ("role:admin and (role:x or @)", False),
        ("not role:admin and role:member", True), ("not (role:admin or role:member)", False),
        ("((role:member))", True), ("( role:member )", True), ("rule:modify_image", True),
        ("rule:context_is_admin", False),
        ([["role:admin", "role:member"], ["role:reader"]], True),
        ([["role:admin", "role:member"]], False), (["role:member"], True),
    ],
)  # fmt: skip
def test_a_text(text: Text, allowed: bool) -> None:
    assert allows(text) is allowed


def test_about_a_membership() -> None:
    text = "project_id:%(member_id)s"
    assert allows(text, member="p1")
    assert not allows(text, member="p2")
    assert not allows(text)
    # a property of that name is none
    assert not allows(text, image=IMAGE._replace(properties={"member_id": "p1"}))


def test_a_property_does_not_replace_what_an_image_is() -> None:
    stolen = Image(id="i", owner="p2", properties={"owner": "p1", "project_id": "p1"})
    assert not allows("project_id:%(owner)s or project_id:%(project_id)s", image=stolen)


def test_without_an_image_it_is_about_the_callers_own() -> None:
    assert allows("project_id:%(owner)s", image=None)


def test_nobodys_project_is_nobodys() -> None:
    ownerless, unscoped = Image(id="i", owner=None), Caller(user="u1")
    assert not allows("project_id:%(owner)s", unscoped, ownerless)
    assert not allows("project_id:%(owner)s", Caller(project="None"), ownerless)
    assert not allows("role:%(owner)s", Caller(roles=frozenset({"none"})), ownerless)
    assert allows("None:%(owner)s", unscoped, ownerless)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("role:x and", "get_image: a check is missing at letter 11"),
        ("or role:x", "get_image: 'or' is not expected at letter 1"),
        ("role:x role:y", "get_image: 'role:y' is not expected at letter 8"),
        ("(role:x", "get_image: ')' is missing at letter 8"),
        ("role:x)", "get_image: ')' is not expected at letter 7"),
        ("gibberish", "get_image: 'gibberish' is no check; one is like role:admin (at letter 1)"),
        ("@ or 'public'",
         "get_image: \"'public'\" is no check; one is like role:admin (at letter 6)"),
        ("http://x/y", "get_image: 'http://x/y': no other server is asked (at letter 1)"),
        ("rule:get_imag",
         "get_image: there is no rule 'get_imag'; did you mean 'get_image'? (at letter 1)"),
        ("rule:x", "get_image: there is no rule 'x' (at letter 1)"),
        ("projct_id:%(owner)s",
         "get_image: a caller has no 'projct_id'; did you mean 'project_id'? (at letter 1)"),
        ("user_id:%(owner)d",
         "get_image: '%(owner)d': what the image has is named like %(owner)s (at letter 1)"),
        ("user_id:%s",
         "get_image: '%s': what the image has is named like %(owner)s (at letter 1)"),
        ("rule:get_image", "get_image: it asks itself: get_image → get_image (at letter 1)"),
        ("  ", "get_image: a check is missing at letter 3"),
        ([["role"]], "get_image: 'role' is no check; one is like role:admin"),
    ],
)  # fmt: skip
def test_a_text_that_is_no_rule(text: Text, said: str) -> None:
    assert why(get_image=text) == said


def test_a_circle_and_the_rule_at_fault_are_named() -> None:
    assert "it asks itself: a → b → a" in why(a="rule:b", b="not rule:a")
    assert why(get_image="rule:helper", helper="nonsense").startswith("helper: ")


def test_references() -> None:
    assert references("rule:a and (not rule:b or role:c)") == {"a", "b"}
    assert references([["rule:a"], "rule:b"]) == {"a", "b"}


# beside the original

words = st.sampled_from(
    [
        "@", "!", "role:member", "role:admin", "role:Reader", "role:%(team)s", "role:%(lost)s",
        "project_id:%(owner)s", "project_id:%(id)s", "project_id:p1", "user_id:%(lead)s",
        "'public':%(visibility)s", "'x':%(visibility)s", "False:%(protected)s", "None:%(name)s",
        "True:%(lost)s", "roles:member", "service_roles:service", "user_domain_id:d1",
        "is_admin:True", "'i1/p1':%(id)s/%(owner)s",
    ]
)  # fmt: skip
texts = st.recursive(
    words,
    lambda inner: st.one_of(
        inner.map("not {}".format),
        inner.map("({})".format),
        inner.map("( {} )".format),
        st.tuples(inner, st.sampled_from(["and", "or", "AND", "Or"]), inner).map(" ".join),
    ),
    max_leaves=8,
)
callers = st.builds(
    Caller,
    project=st.sampled_from(["p1", "p2"]),
    roles=st.frozensets(st.sampled_from(["member", "reader", "admin"])),
    user=st.sampled_from(["u1", "u2"]),
    user_domain=st.just("d1"),
    service_roles=st.frozensets(st.just("service")),
)


@settings(max_examples=400, deadline=None)
@given(text=texts, caller=callers)
def test_it_is_read_as_the_original_reads_it(text: str, caller: Caller) -> None:
    target = {
        **IMAGE.properties, "id": "i1", "owner": "p1", "project_id": "p1", "name": None,
        "visibility": "public", "protected": False,
    }  # fmt: skip
    credentials = {
        "roles": sorted(caller.roles), "project_id": caller.project, "user_id": caller.user,
        "user_domain_id": caller.user_domain, "is_admin": caller.is_admin,
        "service_roles": sorted(caller.service_roles),
    }  # fmt: skip
    original = _parser.parse_rule(text)(target, credentials, SimpleNamespace(rules={}))
    assert allows(text, caller) == bool(original)
