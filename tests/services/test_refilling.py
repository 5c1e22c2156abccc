"""Who may give other bytes to an image that was active once."""

import pytest

from tidegate.domain.errors import Conflict
from tidegate.domain.image import Image
from tidegate.domain.policy import Caller
from tidegate.services.refilling import may_refill, refuse_refill
from tidegate.settings import Locations

OWNER, ADMIN = Caller(roles=frozenset({"member"})), Caller(roles=frozenset({"admin"}))


@pytest.mark.parametrize(
    ("caller", "allowed", "may"),
    [(OWNER, False, False), (OWNER, True, True), (ADMIN, False, True)],
)
def test_an_administrator_or_everybody_where_it_is_allowed(
    caller: Caller, allowed: bool, may: bool
) -> None:
    assert may_refill(caller, Locations(allow_refill=allowed)) is may


def test_an_image_that_never_was_active_is_filled_by_anybody() -> None:
    refuse_refill(OWNER, Image(id="i"), Locations())
    with pytest.raises(Conflict, match="was active before"):
        refuse_refill(OWNER, Image(id="i", was_active=True), Locations())
