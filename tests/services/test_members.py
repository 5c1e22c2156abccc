"""Members as API v2 has them: one at a time, and whoever may not is told so."""

from uuid import uuid4

import pytest
from tests.services.conftest import World

from tidegate.domain.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge
from tidegate.domain.image import Image, Visibility
from tidegate.domain.member import MemberStatus
from tidegate.domain.policy import Caller, Policy
from tidegate.services.members import Members
from tidegate.settings import Quotas


def caller(project: str | None, *roles: str) -> Caller:
    return Caller(project, frozenset(roles or ("member", "reader")))


OWNER, GUEST, OTHER = caller("owner"), caller("guest"), caller("other")
OWNERS_READER, GUESTS_READER = caller("owner", "reader"), caller("guest", "reader")
STRANGER, ADMIN = caller("stranger"), caller("root", "admin")
ACCEPTED = MemberStatus.ACCEPTED


@pytest.fixture
def members(world: World) -> Members:
    return Members(world.catalog, Policy(), quotas=Quotas(members=3))


@pytest.fixture
async def image_id(world: World) -> str:
    """Shared with guest and other."""
    image = Image(id=str(uuid4()), owner="owner")
    await world.catalog.create_image(image)
    for project in ("guest", "other"):
        await world.catalog.put_member(image.id, project)
    return image.id


async def test_an_invited_project_is_pending_until_it_answers(
    members: Members, image_id: str
) -> None:
    assert (await members.invite(OWNER, image_id, "new")).status is MemberStatus.PENDING
    assert (await members.answer(caller("new"), image_id, "new", ACCEPTED)).status is ACCEPTED
    assert (await members.show(OWNER, image_id, "new")).status is ACCEPTED


@pytest.mark.parametrize(
    ("who", "seen"),
    [(OWNER, ["guest", "other"]), (OWNERS_READER, ["guest", "other"]),
     (ADMIN, ["guest", "other"]), (GUEST, ["guest"]), (GUESTS_READER, ["guest"])],
)  # fmt: skip
async def test_a_member_sees_itself_alone(
    members: Members, image_id: str, who: Caller, seen: list[str]
) -> None:
    assert [one.project for one in await members.list_all(who, image_id)] == seen


@pytest.mark.parametrize(
    ("who", "invite", "answer", "dismiss"),
    [
        (OWNER, None, Forbidden, None),
        (ADMIN, None, None, None),
        (OWNERS_READER, Forbidden, Forbidden, Forbidden),
        (GUEST, Forbidden, None, Forbidden),
        (GUESTS_READER, Forbidden, Forbidden, Forbidden),
        (OTHER, Forbidden, NotFound, NotFound),
        (STRANGER, NotFound, NotFound, NotFound),
    ],
)
async def test_who_may(
    members: Members,
    image_id: str,
    who: Caller,
    invite: type[Exception] | None,
    answer: type[Exception] | None,
    dismiss: type[Exception] | None,
) -> None:
    for refusal, call in (
        (invite, lambda: members.invite(who, image_id, "new")),
        (answer, lambda: members.answer(who, image_id, "guest", ACCEPTED)),
        (dismiss, lambda: members.dismiss(who, image_id, "guest")),
    ):
        if refusal is None:
            await call()
        else:
            with pytest.raises(refusal):
                await call()


@pytest.mark.parametrize("project", ["guest", "owner"])
async def test_an_owner_that_is_listed_answers_for_nobody(
    members: Members, image_id: str, world: World, project: str
) -> None:
    await world.catalog.put_member(image_id, "owner")  # as before it was given the image
    with pytest.raises(Forbidden):
        await members.answer(OWNER, image_id, project, ACCEPTED)
    assert (await world.catalog.get_member(image_id, project)).status is MemberStatus.PENDING


async def test_nobody_is_invited_twice(members: Members, image_id: str) -> None:
    with pytest.raises(Conflict):
        await members.invite(OWNER, image_id, "guest")


async def test_nor_more_than_the_quota(members: Members, image_id: str) -> None:
    await members.invite(OWNER, image_id, "third")
    with pytest.raises(TooLarge, match="Attempted: 4, Maximum: 3"):
        await members.invite(OWNER, image_id, "fourth")


@pytest.mark.parametrize("project", ["", "owner", "x" * 256, "a\nb", "a\0b"])
async def test_sec_33_nor_what_is_no_other_project(
    members: Members, image_id: str, project: str
) -> None:
    with pytest.raises(Invalid):
        await members.invite(OWNER, image_id, project)


@pytest.mark.parametrize("who", [OWNER, ADMIN])
@pytest.mark.parametrize(
    "visibility", [Visibility.PUBLIC, Visibility.PRIVATE, Visibility.COMMUNITY]
)
async def test_only_shared_images_have_members(
    members: Members, world: World, who: Caller, visibility: Visibility
) -> None:
    image = Image(id=str(uuid4()), owner="owner", visibility=visibility)
    await world.catalog.create_image(image)
    for call in (
        members.list_all(who, image.id),
        members.invite(who, image.id, "guest"),
        members.answer(who, image.id, "guest", ACCEPTED),
        members.dismiss(who, image.id, "guest"),
    ):
        with pytest.raises(Forbidden, match="Only shared images have members"):
            await call
    with pytest.raises(NotFound, match="only shared images have"):
        await members.show(who, image.id, "guest")


@pytest.mark.parametrize(
    ("who", "sees"),
    [(OWNER, True), (ADMIN, True), (OWNERS_READER, True), (GUEST, True), (GUESTS_READER, True),
     (OTHER, False), (STRANGER, False), (caller("guest", "nothing"), False)],
)  # fmt: skip
async def test_who_sees_one_member(
    members: Members, image_id: str, who: Caller, sees: bool
) -> None:
    if sees:
        assert (await members.show(who, image_id, "guest")).project == "guest"
    else:
        with pytest.raises(NotFound):
            await members.show(who, image_id, "guest")
