"""Callers by Keystone's tokens: auth mode ``keystone``.

What Keystone said of a token is believed for a while, so that it is asked once for many requests,
and so that known callers are served while it is down. A token itself is kept nowhere.
"""

import asyncio
import hashlib
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

from cachetools import TLRUCache, TTLCache
from multidict import MultiMapping

from tidegate.domain.errors import IdentityDown, Unauthenticated
from tidegate.domain.policy import Caller
from tidegate.identity.access import allowed
from tidegate.identity.base import Address, nowhere
from tidegate.identity.failures import FailedTokens
from tidegate.identity.flights import Flights
from tidegate.identity.keystone_api import Grant, KeystoneApi, short_hash
from tidegate.settings import Keystone as Settings
from tidegate.telemetry import log

MOST_KNOWN = 50_000
"""Tokens that are remembered, about 1 KiB each."""

MOST_REFUSED = 10_000
"""Bad ones, so that a flood of them does not reach Keystone."""

_TOKEN = re.compile(r"[!-~]{1,8192}")


class Keystone:
    """Of headers it reads the two tokens and nothing else: whatever a client says of itself in
    ``X-Roles`` and the like is not looked at. As a job it renews our own token in time."""

    name = "keystone"
    every = 30.0

    def __init__(
        self,
        settings: Settings,
        failed: FailedTokens | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``clock``: in seconds, that never goes back."""
        self._settings = settings
        self._failed = failed or FailedTokens()
        self._api = KeystoneApi(settings)
        self._flights: Flights[Grant | None] = Flights()
        self._known: TLRUCache[bytes, Grant] = TLRUCache(
            MOST_KNOWN, lambda _, grant, now: now + self._life(grant), timer=clock
        )
        self._refused: TTLCache[tuple[bytes, bool], bool] = TTLCache(
            MOST_REFUSED, settings.refusal_cache, timer=clock
        )

    async def open(self) -> None:
        """SettingsError. Keystone itself may be down."""
        await self._api.open()

    async def close(self) -> None:
        await self._api.close()

    async def once(self) -> int:
        with suppress(IdentityDown):  # the log has it already
            await self._api.renew()
        return 0

    async def caller(
        self,
        headers: MultiMapping[str],
        method: str = "",
        path: str = "",
        address: Address = nowhere,
    ) -> Caller:
        token = self._given(headers, "X-Auth-Token")
        if token is None:
            raise self._refusal()
        service = await self._service(headers, address)
        grant = await self._grant(token, address, expired=service is not None)
        if grant is None:
            raise self._refusal()
        if service is not None:
            return replace(grant.caller, service_roles=service.roles)
        rules, kind = grant.access, self._settings.service_type
        if rules is not None and not allowed(rules, kind, method, path):
            log.info("no access rule allows it", token=grant.caller.token, method=method)
            raise self._refusal()
        return grant.caller

    async def _service(self, headers: MultiMapping[str], address: Address) -> Caller | None:
        """The service that asks on the caller's behalf; None also where that is not one."""
        token = self._given(headers, "X-Service-Token")
        if token is None:
            return None
        grant = await self._grant(token, address, expired=False)
        if grant is not None and not grant.caller.roles.isdisjoint(self._roles):
            return grant.caller
        log.info("service token not counted", token=short_hash(token))
        return None

    async def _grant(self, token: str, address: Address, *, expired: bool) -> Grant | None:
        """None: refused. ``expired``: one that is over will do. Busy."""
        key = hashlib.sha256(token.encode()).digest()
        found = self._known.get(key)
        if found is None:
            if (key, expired) in self._refused:
                return None
            try:
                async with asyncio.timeout(self._settings.timeout):
                    found = await self._flights.one(
                        (key, expired), lambda: self._ask(key, token, expired, address())
                    )
            except TimeoutError as error:
                raise self._api.silent() from error
        if found is None or (found.expires <= time.time() and not expired):
            return None
        return found

    async def _ask(self, key: bytes, token: str, expired: bool, address: str) -> Grant | None:
        if (known := self._known.get(key)) is not None:  # somebody asked while this one waited
            return known
        # before anything is awaited, so that no other address waits for this one's refusal
        self._failed.take(address)
        found: Grant | None = None
        refused = False
        try:
            found = await self._api.validate(token, expired=expired)
            refused = found is None
        finally:
            if not refused:
                self._failed.give_back(address)
        if found is None:
            self._refused[key, expired] = True
        else:
            self._known[key] = found
        return found

    def _life(self, grant: Grant) -> float:
        """Seconds for which it is believed; one that is over was asked for on purpose."""
        left = grant.expires - time.time()
        return min(self._settings.cache, left) if left > 0 else self._settings.cache

    @property
    def _roles(self) -> frozenset[str]:
        return frozenset(role.lower() for role in self._settings.service_roles)

    def _given(self, headers: MultiMapping[str], name: str) -> str | None:
        """The token under this name, if it can be one. Unauthenticated: there are several, and
        something before us may have checked another one."""
        tokens = headers.getall(name, [])
        if len(tokens) > 1:
            raise self._refusal()
        text = tokens[0].strip() if tokens else ""
        return text if _TOKEN.fullmatch(text) else None

    def _refusal(self) -> Unauthenticated:
        """The same for every reason."""
        uri = self._settings.public_url or self._settings.url
        return Unauthenticated(
            "The request you have made requires authentication.", f'Keystone uri="{uri}"'
        )
