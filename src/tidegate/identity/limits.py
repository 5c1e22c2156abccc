"""What projects may hold by Keystone's unified limits (Identity API v3, "Unified Limits").

The names and units are Glance's, so that what an operator registered for it holds here. As there,
what is not registered is a limit of nothing.
"""

from typing import NamedTuple
from urllib.parse import quote

from cachetools import LRUCache, TTLCache
from pydantic import BaseModel

from tidegate.domain.errors import IdentityDown
from tidegate.domain.quota import Allowance
from tidegate.identity.flights import Flights
from tidegate.identity.keystone_api import KeystoneApi
from tidegate.settings import Keystone as Settings

MIB = 2**20
MOST_KNOWN = 50_000
"""Projects whose limits are remembered."""


class KeystoneLimits:
    """Believed for as long as a token is, and for longer while Keystone cannot be asked."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._api = KeystoneApi(settings, system=True)
        self._flights: Flights[Allowance] = Flights()
        self._defaults_flights: Flights[_Defaults] = Flights()
        self._defaults: TTLCache[str, _Defaults] = TTLCache(1, settings.cache)
        self._fresh: TTLCache[str, Allowance] = TTLCache(MOST_KNOWN, settings.cache)
        self._stale: LRUCache[str, Allowance] = LRUCache(MOST_KNOWN)

    async def open(self) -> None:
        """SettingsError. Keystone itself may be down."""
        await self._api.open()

    async def close(self) -> None:
        await self._api.close()

    async def of(self, project: str) -> Allowance:
        """IdentityDown: it cannot be asked, and was not asked of this project before."""
        found = self._fresh.get(project)
        if found is not None:
            return found
        try:
            return await self._flights.one(project, lambda: self._ask(project))
        except IdentityDown:
            if project in self._stale:
                return self._stale[project]
            raise

    async def _ask(self, project: str) -> Allowance:
        defaults = self._defaults.get("")
        if defaults is None:
            defaults = await self._defaults_flights.one("", self._ask_defaults)
        own = (await self._api.read(f"/limits?project_id={quote(project)}", _Limits)).limits
        of_project = [one for one in own if one.project_id == project]
        fitting = self._fitting(of_project, defaults.services)
        most = defaults.most | {one.resource_name: one.resource_limit for one in fitting}

        def limit(name: str, unit: int = 1) -> int | None:
            value = most.get(name, 0)
            return None if value < 0 else value * unit

        found = Allowance(
            images=limit("image_count_total"),
            bytes=limit("image_size_total", MIB),
            staged=limit("image_stage_total", MIB),
            uploading=limit("image_count_uploading"),
        )
        self._fresh[project] = self._stale[project] = found
        return found

    async def _ask_defaults(self) -> "_Defaults":
        kind = quote(self._settings.service_type, safe="")
        services = (await self._api.read(f"/services?type={kind}", _Services)).services
        ours = {service.id for service in services}
        registered = (await self._api.read("/registered_limits", _Registered)).registered_limits
        fitting = self._fitting(registered, ours)
        found = _Defaults(ours, {one.resource_name: one.default_limit for one in fitting})
        self._defaults[""] = found
        return found

    def _fitting(self, limits: "list[_Limit]", services: set[str]) -> "list[_Limit]":
        """Those of our service, the ones of our region behind those of every region."""
        region = self._settings.region
        fitting = [
            one
            for one in limits
            if one.service_id in services and (not region or one.region_id in (None, region))
        ]
        return sorted(fitting, key=lambda one: one.region_id is not None)


class _Defaults(NamedTuple):
    """What holds for each project: the ids of our service, and limits by resource."""

    services: set[str]
    most: dict[str, int]


class _Service(BaseModel):
    id: str


class _Services(BaseModel):
    services: list[_Service]


class _Limit(BaseModel):
    """A registered one has a ``default_limit``, a project's own a ``resource_limit``."""

    resource_name: str
    service_id: str
    region_id: str | None = None
    project_id: str | None = None
    default_limit: int = 0
    resource_limit: int = 0


class _Registered(BaseModel):
    registered_limits: list[_Limit]


class _Limits(BaseModel):
    limits: list[_Limit]
