"""What every catalog promises of deactivating, and of the look at many images."""

from uuid import uuid4

import pytest

from tidegate.catalog.base import Viewer
from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.errors import BadTransition, Forbidden, NotFound
from tidegate.domain.image import Image
from tidegate.domain.status import Event, Status

ADMIN = Viewer(admin=True)


async def active(catalog: SqlCatalog) -> str:
    image = await catalog.create_image(Image(id=str(uuid4()), status=Status.ACTIVE, size=0))
    return image.id


async def status(catalog: SqlCatalog, image_id: str) -> Status:
    return (await catalog.get_image(image_id, ADMIN)).status


@pytest.mark.parametrize("by_admin", [False, True])
async def test_there_and_back(catalog: SqlCatalog, by_admin: bool) -> None:
    image_id = await active(catalog)
    await catalog.deactivate(image_id, by_admin=by_admin)
    assert await status(catalog, image_id) is Status.DEACTIVATED
    await catalog.reactivate(image_id, by_admin=by_admin)
    image = await catalog.get_image(image_id, ADMIN)
    assert (image.status, image.deactivated_by) == (Status.ACTIVE, None)


async def test_done_already_changes_nothing(catalog: SqlCatalog) -> None:
    image_id = await active(catalog)
    before = await catalog.get_image(image_id, ADMIN)
    await catalog.reactivate(image_id, by_admin=False)
    assert await catalog.get_image(image_id, ADMIN) == before
    await catalog.deactivate(image_id, by_admin=False)
    before = await catalog.get_image(image_id, ADMIN)
    await catalog.deactivate(image_id, by_admin=False)
    assert await catalog.get_image(image_id, ADMIN) == before


async def test_what_an_admin_closed_an_admin_opens(catalog: SqlCatalog) -> None:
    image_id = await active(catalog)
    await catalog.deactivate(image_id, by_admin=True)
    with pytest.raises(Forbidden):
        await catalog.reactivate(image_id, by_admin=False)
    assert await status(catalog, image_id) is Status.DEACTIVATED
    await catalog.reactivate(image_id, by_admin=True)
    await catalog.deactivate(image_id, by_admin=False)
    await catalog.reactivate(image_id, by_admin=False)
    assert await status(catalog, image_id) is Status.ACTIVE


async def test_an_admins_word_replaces_the_owners_and_never_the_other_way(
    catalog: SqlCatalog,
) -> None:
    image_id = await active(catalog)
    for by_admin in (False, True, False):
        await catalog.deactivate(image_id, by_admin=by_admin)
    with pytest.raises(Forbidden):
        await catalog.reactivate(image_id, by_admin=False)


@pytest.mark.parametrize("event", [None, Event.STAGE, Event.IMPORT])
async def test_from_another_status_there_is_no_way(
    catalog: SqlCatalog, event: Event | None
) -> None:
    image_id = (await catalog.create_image(Image(id=str(uuid4())))).id
    if event is not None:
        await catalog.advance(image_id, event)
    before = await catalog.get_image(image_id, ADMIN)
    for step in (catalog.deactivate, catalog.reactivate):
        with pytest.raises(BadTransition) as refused:
            await step(image_id, by_admin=True)
        assert refused.value.status == before.status
    assert await catalog.get_image(image_id, ADMIN) == before


async def test_what_is_deleted_or_was_never_there_is_not_found(catalog: SqlCatalog) -> None:
    image_id = await active(catalog)
    await catalog.delete_image(image_id)
    for missing in (image_id, str(uuid4())):
        with pytest.raises(NotFound):
            await catalog.deactivate(missing, by_admin=True)
        with pytest.raises(NotFound):
            await catalog.reactivate(missing, by_admin=True)


async def test_statuses_of_many(catalog: SqlCatalog) -> None:
    first, second, third = [await active(catalog) for _ in range(3)]
    await catalog.deactivate(second, by_admin=False)
    await catalog.delete_image(third)
    found = await catalog.statuses({first, second, third, str(uuid4())})
    assert found == {first: Status.ACTIVE, second: Status.DEACTIVATED, third: Status.DELETED}
