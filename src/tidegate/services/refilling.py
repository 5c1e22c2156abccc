"""Whether an image that was active once may get other bytes: what people use under an id should
stay what it was (CVE-2016-0757)."""

from tidegate.domain.errors import Conflict
from tidegate.domain.image import Image
from tidegate.domain.policy import Caller
from tidegate.settings import Locations


def may_refill(caller: Caller, settings: Locations) -> bool:
    return caller.is_admin or settings.allow_refill


def refuse_refill(caller: Caller, image: Image, settings: Locations) -> None:
    """Conflict: the image had data once, and this caller may not give it other."""
    if image.was_active and not may_refill(caller, settings):
        raise Conflict("The image was active before; its data cannot be replaced.")
