"""What every catalog promises of the members of images."""

import asyncio

import pytest
from tests.catalog.test_contract import ADMIN, catalog, image, in_status, other, url

from tidegate.catalog.base import ImageQuery, Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import Conflict, NotFound, TooLarge
from tidegate.domain.image import Visibility
from tidegate.domain.member import MemberStatus
from tidegate.domain.status import Status

__all__ = ["catalog", "other", "url"]  # fixtures

OWNER, GUEST = Viewer(project="owner"), Viewer(project="guest")


async def shared(catalog: SqlCatalog, *members: str, **fields: object) -> str:
    image_id = (await catalog.create_image(image(**{"owner": "owner", **fields}))).id
    for member in members:
        await catalog.put_member(image_id, member)
    return image_id


async def projects(catalog: SqlCatalog, image_id: str) -> list[str]:
    return [member.project for member in await catalog.members_of(image_id)]


async def test_a_member_is_invited_as_pending_and_cannot_share(catalog: SqlCatalog) -> None:
    image_id = await shared(catalog)
    member = await catalog.put_member(image_id, "guest")
    assert (member.status, member.can_share) == (MemberStatus.PENDING, False)
    assert member.created_at == member.updated_at > 0
    assert await catalog.members_of(image_id) == [member]
    assert await catalog.get_member(image_id, "guest") == member


async def test_a_member_may_see_the_image(catalog: SqlCatalog) -> None:
    image_id = await shared(catalog)
    with pytest.raises(NotFound):
        await catalog.get_image(image_id, GUEST)
    await catalog.put_member(image_id, "guest")
    assert (await catalog.get_image(image_id, GUEST)).member_status == MemberStatus.PENDING
    await catalog.drop_member(image_id, "guest")
    with pytest.raises(NotFound):
        await catalog.get_image(image_id, GUEST)


@pytest.mark.parametrize(("given", "kept"), [(None, True), (True, True), (False, False)])
async def test_what_is_not_said_of_can_share_stays(
    catalog: SqlCatalog, given: bool | None, kept: bool
) -> None:
    image_id = await shared(catalog)
    await catalog.put_member(image_id, "guest", can_share=True)
    await catalog.set_member_status(image_id, "guest", MemberStatus.ACCEPTED)
    member = await catalog.put_member(image_id, "guest", can_share=given)
    assert member.can_share is kept
    assert member.status is MemberStatus.ACCEPTED


async def test_who_is_a_member_is_not_new(catalog: SqlCatalog) -> None:
    image_id = await shared(catalog, "guest")
    with pytest.raises(Conflict):
        await catalog.put_member(image_id, "guest", new=True)


@pytest.mark.parametrize("new", [False, True])
async def test_who_was_removed_and_comes_back_is_pending_again(
    catalog: SqlCatalog, new: bool
) -> None:
    image_id = await shared(catalog)
    first = await catalog.put_member(image_id, "guest", can_share=True)
    await catalog.set_member_status(image_id, "guest", MemberStatus.REJECTED)
    await catalog.drop_member(image_id, "guest")
    assert await projects(catalog, image_id) == []
    member = await catalog.put_member(image_id, "guest", new=new)
    assert (member.status, member.can_share) == (MemberStatus.PENDING, False)
    assert member.created_at == first.created_at


async def test_the_quota_counts_real_additions_alone(catalog: SqlCatalog) -> None:
    image_id = await shared(catalog, "a", "b", "c")
    await catalog.drop_member(image_id, "c")
    await catalog.put_member(image_id, "b", can_share=True, limit=2)
    for comes in ("c", "d"):  # one that was a member, and one that was not
        with pytest.raises(TooLarge, match="Attempted: 3, Maximum: 2"):
            await catalog.put_member(image_id, comes, limit=2)
    assert await projects(catalog, image_id) == ["a", "b"]
    await catalog.put_member(image_id, "d", limit=-1)


async def test_of_many_at_once_no_more_come_than_there_is_room_for(
    catalog: SqlCatalog, other: SqlCatalog
) -> None:
    image_id = await shared(catalog)
    calls = [
        (catalog, other)[number % 2].put_member(image_id, f"p{number}", limit=3)
        for number in range(8)
    ]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(outcome, TooLarge) for outcome in outcomes) == 5
    assert len(await projects(catalog, image_id)) == 3


async def test_replacing_removes_the_others(catalog: SqlCatalog) -> None:
    image_id = await shared(catalog, "a", "b")
    await catalog.set_member_status(image_id, "b", MemberStatus.ACCEPTED)
    await catalog.replace_members(image_id, {"b": True, "c": None}, limit=2)
    b, c = await catalog.members_of(image_id)
    assert (b.project, b.can_share, b.status) == ("b", True, MemberStatus.ACCEPTED)
    assert (c.project, c.can_share, c.status) == ("c", False, MemberStatus.PENDING)
    await catalog.replace_members(image_id, {})
    assert await projects(catalog, image_id) == []


async def test_replacing_by_too_many_changes_nothing(catalog: SqlCatalog) -> None:
    image_id = await shared(catalog, "a")
    with pytest.raises(TooLarge):
        await catalog.replace_members(image_id, {"b": None, "c": None, "d": None}, limit=2)
    assert await projects(catalog, image_id) == ["a"]


async def test_above_a_lowered_quota_members_may_be_replaced(catalog: SqlCatalog) -> None:
    image_id = await shared(catalog, "a", "b", "c")
    await catalog.replace_members(image_id, {"a": None, "d": None, "b": None}, limit=1)
    assert await projects(catalog, image_id) == ["a", "b", "d"]


async def test_who_is_no_member_can_neither_answer_nor_go(catalog: SqlCatalog) -> None:
    image_id = await shared(catalog)
    with pytest.raises(NotFound):
        await catalog.set_member_status(image_id, "guest", MemberStatus.ACCEPTED)
    with pytest.raises(NotFound):
        await catalog.drop_member(image_id, "guest")
    with pytest.raises(NotFound):
        await catalog.get_member(image_id, "guest")


@pytest.mark.parametrize("status", sorted(Status))
async def test_members_change_until_the_image_is_deleted(
    catalog: SqlCatalog, status: Status
) -> None:
    image_id = (await in_status(catalog, status)).id
    if status is Status.DELETED:
        with pytest.raises(NotFound):
            await catalog.put_member(image_id, "guest")
        with pytest.raises(NotFound):
            await catalog.replace_members(image_id, {"guest": None})
    else:
        await catalog.put_member(image_id, "guest")
        await catalog.replace_members(image_id, {"guest": True})
        await catalog.drop_member(image_id, "guest")


async def test_an_unknown_image_has_no_members(catalog: SqlCatalog) -> None:
    assert await catalog.members_of("nope") == []
    with pytest.raises(NotFound):
        await catalog.put_member("nope", "guest")


async def test_what_is_shared_with_a_project_is_told_to_whom_it_concerns(
    catalog: SqlCatalog,
) -> None:
    mine = await shared(catalog, "guest")
    theirs = await shared(catalog, "guest", owner="third")
    await catalog.delete_image(await shared(catalog, "guest"))
    await catalog.drop_member(await shared(catalog, "guest"), "guest")

    async def told(viewer: Viewer) -> set[str]:
        return {member.image_id for member in await catalog.shared_with("guest", viewer)}

    assert await told(ADMIN) == {mine, theirs}
    assert await told(GUEST) == {mine, theirs}
    assert await told(OWNER) == {mine}
    assert await told(Viewer(project="stranger")) == set()
    assert await told(Viewer()) == set()


async def test_a_member_is_not_told_of_what_is_no_longer_shared(catalog: SqlCatalog) -> None:
    image_id = await shared(catalog, "guest", visibility=Visibility.PRIVATE)
    assert await catalog.shared_with("guest", GUEST) == []
    assert [one.image_id for one in await catalog.shared_with("guest", OWNER)] == [image_id]


@pytest.mark.parametrize("status", sorted(MemberStatus))
async def test_a_list_heeds_what_the_member_answered(
    catalog: SqlCatalog, status: MemberStatus
) -> None:
    image_id = await shared(catalog, "guest")
    await catalog.set_member_status(image_id, "guest", status)

    async def listed(member_status: str) -> list[str]:
        query = ImageQuery(viewer=GUEST, member_status=member_status)
        return [found.id for found in await catalog.list_images(query)]

    assert await listed("all") == [image_id]
    for asked in MemberStatus:
        assert await listed(asked) == ([image_id] if asked == status else [])
