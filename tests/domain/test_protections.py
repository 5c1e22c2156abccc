"""Property protections: what a file may say, and what it means."""

import pytest

from tidegate.domain.image import Image
from tidegate.domain.policy import Caller, Policy
from tidegate.domain.protections import OPERATIONS, ProtectionError, Protections

FILE = """
# the first section that fits counts
[^x_billing_.*]
create = Admin, billing
read = @
update = billing
delete = !
[x_secret]
create = admin
read = admin
update = admin
delete = admin
[^free$]
create = @
read = @
update = @
delete =
"""


def caller(*roles: str, service: tuple[str, ...] = ()) -> Caller:
    return Caller("p1", frozenset(roles), service_roles=frozenset(service))


def rights(name: str, *roles: str, service: tuple[str, ...] = ()) -> set[str]:
    protections = Protections(FILE)
    who = caller(*roles, service=service)
    return {one for one in OPERATIONS if protections.allows(who, one, name)}


@pytest.mark.parametrize(
    ("name", "roles", "allowed"),
    [
        ("x_billing_code", ["member"], {"read"}),
        ("x_billing_code", ["billing"], {"create", "read", "update"}),
        ("x_billing_code", ["admin"], {"create", "read"}),
        ("x_secret", ["member"], set()),
        ("x_secret", ["admin"], set(OPERATIONS)),
        # found anywhere in the name
        ("my_x_secret_thing", ["member"], set()),
        ("free", ["member"], {"create", "read", "update"}),
        # what no section is about
        ("other", ["admin"], set()),
        ("os_glance_damage", [], set(OPERATIONS)),
    ],
)
def test_rights(name: str, roles: list[str], allowed: set[str]) -> None:
    assert rights(name, *roles) == allowed


def test_a_services_roles_count_too() -> None:
    assert rights("x_billing_code", "member", service=("billing",)) == {"create", "read", "update"}


def test_without_protections_everybody_may_everything() -> None:
    image = Image(id="i", properties={"a": "b"})
    assert Policy().readable(caller(), image) is image
    assert Policy().allows_property(caller(), "delete", "a")


def test_what_may_not_be_read_is_left_out() -> None:
    image = Image(id="i", properties={"free": "1", "x_secret": "2", "os_glance_damage": "3"})
    policy = Policy(protections=Protections(FILE))
    assert set(policy.readable(caller("member"), image).properties) == {"free", "os_glance_damage"}
    assert set(policy.readable(caller("admin"), image).properties) == set(image.properties)


WHOLE = "create = @\nread = @\nupdate = @\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[x]\n" + WHOLE, "[x]: 'delete' is missing"),
        ("[x]\n" + WHOLE + "delete = @\nerase = @", "[x]: 'erase' is no operation"),
        ("[x(]\n" + WHOLE + "delete = @", "[x(] is no regular expression"),
        ("[x]\n" + WHOLE + "delete = @, admin", "[x]: '@' and '!' stand alone"),
        ("[x]\n" + WHOLE + "delete = !, @", "[x]: '@' and '!' stand alone"),
        (WHOLE, "no section headers"),
        ("[x]\n" + WHOLE + "delete = @\n[x]\n" + WHOLE, "already exists"),
        ("[x]\ncreate", "contains parsing errors"),
    ],
)
def test_a_file_that_says_nothing_clear(text: str, said: str) -> None:
    with pytest.raises(ProtectionError) as refused:
        Protections(text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)
