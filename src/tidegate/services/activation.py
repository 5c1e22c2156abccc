"""Closing an image's bytes to everybody but administrators, and opening them again."""

from tidegate.catalog.base import Catalog, Viewer
from tidegate.domain.errors import BadTransition, Forbidden
from tidegate.domain.policy import Caller, Policy
from tidegate.telemetry import log


class Activation:
    def __init__(self, catalog: Catalog, policy: Policy) -> None:
        self._catalog = catalog
        self._policy = policy

    async def deactivate(self, caller: Caller, image_id: str) -> None:
        """Nothing changes where it is deactivated already. NotFound, Forbidden (also in any other
        status than active)."""
        await self._require(caller, "deactivate", image_id)
        try:
            await self._catalog.deactivate(image_id, by_admin=caller.is_admin)
        except BadTransition as error:
            raise _refused("deactivate", error) from error
        log.info("image deactivated", image=image_id, by_admin=caller.is_admin)

    async def reactivate(self, caller: Caller, image_id: str) -> None:
        """Nothing changes where it is active already. NotFound, Forbidden (also in any other
        status than deactivated, and where an administrator deactivated it and the caller is
        none)."""
        await self._require(caller, "reactivate", image_id)
        try:
            await self._catalog.reactivate(image_id, by_admin=caller.is_admin)
        except BadTransition as error:
            raise _refused("reactivate", error) from error
        log.info("image reactivated", image=image_id, by_admin=caller.is_admin)

    async def _require(self, caller: Caller, action: str, image_id: str) -> None:
        viewer = Viewer.of(caller)
        image = await self._catalog.get_image(image_id, viewer)
        self._policy.require(caller, action, image)


def _refused(action: str, error: BadTransition) -> Forbidden:
    return Forbidden(f"Not allowed to {action} image in status '{error.status}'")
