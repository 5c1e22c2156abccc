"""What is asked of Keystone (Identity API v3), with our own token, which is renewed in time.

Nothing that Keystone says of an error is repeated anywhere: it may hold the token.
"""

import asyncio
import hashlib
import ssl
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

import aiohttp
from multidict import CIMultiDictProxy
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from tidegate.domain.errors import IdentityDown
from tidegate.domain.policy import Caller
from tidegate.identity.access import AccessRule
from tidegate.identity.flights import Flights
from tidegate.private_files import PrivateFileError, read_private
from tidegate.settings import Keystone as Settings
from tidegate.settings import SettingsError
from tidegate.telemetry import log

IN_FLIGHT = 32
"""Calls to Keystone at a time, per worker."""

CONNECT_WITHIN = 2.0
"""Seconds for a connection to Keystone."""

_DOWN = "The identity service does not answer now; try again later."
_HEADERS = {
    "User-Agent": "tidegate",
    "Accept": "application/json",
    # without it Keystone knows no token of a credential with access rules
    "OpenStack-Identity-Access-Rules": "1.0",
}
M = TypeVar("M", bound=BaseModel)

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Grant(NamedTuple):
    """What Keystone says of a token. ``expires``: seconds since 1970; ``access`` None: it is good
    for every request."""

    caller: Caller
    expires: float
    access: tuple[AccessRule, ...] | None = None


class KeystoneApi:
    """IdentityDown, from each call: Keystone cannot be asked now, and the log says why."""

    def __init__(self, settings: Settings, *, system: bool = False) -> None:
        """``system``: as an account of the whole cloud, which may read what is not of its own
        project."""
        self._settings = settings
        self._system = system
        self._base = f"{settings.url.removesuffix('/v3')}/v3"
        self._url = f"{self._base}/auth/tokens?nocatalog"
        self._session: aiohttp.ClientSession | None = None
        self._flights: Flights[str] = Flights()
        self._own = ""
        self._renew_at = 0.0
        self._trouble = ""
        self._login: dict[str, Any] = {}

    async def open(self) -> None:
        """SettingsError: a file that it names cannot be used."""
        settings = self._settings
        self._login = await asyncio.to_thread(_login, settings, system=self._system)
        trusted = await asyncio.to_thread(_trusted, settings)
        url = urlsplit(settings.url)
        if settings.insecure:
            log.warning("certificates of keystone are not checked")
        elif url.scheme == "http" and url.hostname not in _LOOPBACK:
            log.warning("tokens go to keystone without TLS")
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=IN_FLIGHT, ssl=trusted),
            headers=_HEADERS,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=settings.timeout, sock_connect=CONNECT_WITHIN),
        )

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def renew(self) -> None:
        """Have a token of our own that lasts for a while."""
        await self._own_token()

    async def validate(self, token: str, *, expired: bool = False) -> Grant | None:
        """None: it is no token, or one that is over; ``expired``: such are taken, too."""
        url = f"{self._url}&allow_expired=1" if expired else self._url
        status, body = await self._get(
            url, "our account lacks the role service or admin", {"X-Subject-Token": token}
        )
        if status == HTTPStatus.NOT_FOUND:
            self._answers()
            return None
        return self._granted(token, body)

    async def read(self, path: str, model: type[M]) -> M:
        """What Keystone shows under a path of its API."""
        status, body = await self._get(
            f"{self._base}{path}", "our account lacks the role reader on the system"
        )
        if status != HTTPStatus.OK:
            raise self._down(f"it answers {status}")
        found = self._parse(model, body)
        self._answers()
        return found

    async def _get(
        self, url: str, forbidden: str, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """200 or 404, and the body. IdentityDown: another, ``forbidden`` of 403."""
        own = ""
        for _ in range(2):
            own = await self._own_token(other_than=own)
            status, _, body = await self._ask(
                "GET", url, headers={**(headers or {}), "X-Auth-Token": own}
            )
            match status:
                case HTTPStatus.OK | HTTPStatus.NOT_FOUND:
                    return status, body
                case HTTPStatus.UNAUTHORIZED:
                    continue  # that was about our token, not the caller's
                case HTTPStatus.FORBIDDEN:
                    raise self._down(forbidden)
                case _:
                    raise self._down(f"it answers {status}")
        raise self._down("it refuses the token of our account")

    async def _own_token(self, *, other_than: str = "") -> str:
        if self._own == other_than or time.monotonic() >= self._renew_at:
            return await self._flights.one("own", self._log_in)
        return self._own

    async def _log_in(self) -> str:
        url = self._url
        status, headers, body = await self._ask("POST", url, json=self._login)
        if status == HTTPStatus.UNAUTHORIZED:
            raise self._down("it refuses the name, secret or project of our account")
        if status != HTTPStatus.CREATED or "X-Subject-Token" not in headers:
            raise self._down(f"it answers {status} to our login")
        lasts = self._read(body).expires_at.timestamp() - time.time()
        self._renew_at = time.monotonic() + lasts - max(60.0, lasts / 10)
        self._own = headers["X-Subject-Token"]
        return self._own

    async def _ask(
        self, method: str, url: str, **options: Any
    ) -> tuple[int, CIMultiDictProxy[str], bytes]:
        assert self._session is not None
        try:
            async with self._session.request(
                method, url, allow_redirects=False, **options
            ) as response:
                return response.status, response.headers, await response.read()
        except TimeoutError as error:
            raise self.silent() from error
        except (aiohttp.ClientError, OSError) as error:
            raise self._down(f"no connection ({type(error).__name__})") from error

    def _granted(self, token: str, body: bytes) -> Grant:
        found = self._read(body)
        self._answers()
        # a token for a whole system or domain is of no project, and its roles count for nothing
        roles = found.roles if found.project is not None else []
        caller = Caller(
            project=None if found.project is None else found.project.id,
            roles=frozenset(role.name.lower() for role in roles),
            user=found.user.id,
            token=short_hash(token),
            user_domain=None if found.user.domain is None else found.user.domain.id,
            project_domain=_domain_of(found.project),
        )
        credential = found.application_credential
        rules = None if credential is None else credential.access_rules
        access = None if rules is None else tuple(map(_access_rule, rules))
        return Grant(caller, found.expires_at.timestamp(), access)

    def _read(self, body: bytes) -> "_Token":
        return self._parse(_Answer, body).token

    def _parse(self, model: type[M], body: bytes) -> M:
        try:
            return model.model_validate_json(body)
        except ValidationError as error:
            # the error's text would show the answer
            reason = f"its answer cannot be read ({error.error_count()} errors)"
            raise self._down(reason) from None

    def silent(self) -> IdentityDown:
        return self._down(f"no answer within {self._settings.timeout:g} s")

    def _down(self, why: str) -> IdentityDown:
        if why != self._trouble:  # one line each time that it changes, not one a request
            self._trouble = why
            log.error("keystone cannot be asked", reason=why)
        return IdentityDown(_DOWN)

    def _answers(self) -> None:
        if self._trouble:
            self._trouble = ""
            log.info("keystone answers again")


def short_hash(token: str) -> str:
    """How the log names a token."""
    return hashlib.sha256(token.encode()).hexdigest()[:8]


# what Keystone answers; what we do not know of is no matter


class _Named(BaseModel):
    id: str
    domain: "_Named | None" = None


class _Role(BaseModel):
    name: str


class _Credential(BaseModel):
    access_rules: list["_Rule"] | None = None


class _Rule(BaseModel):
    service: str
    method: str
    path: str


def _zoned(value: datetime) -> datetime:
    return value if value.tzinfo is not None else value.replace(tzinfo=UTC)


class _Token(BaseModel):
    user: _Named
    project: _Named | None = None
    roles: list[_Role] = Field(default_factory=list)
    expires_at: Annotated[datetime, AfterValidator(_zoned)]
    application_credential: _Credential | None = None


class _Answer(BaseModel):
    token: _Token


def _domain_of(project: _Named | None) -> str | None:
    return None if project is None or project.domain is None else project.domain.id


def _access_rule(rule: _Rule) -> AccessRule:
    return AccessRule(rule.service, rule.method, rule.path)


def _login(settings: Settings, *, system: bool) -> dict[str, Any]:
    """The body of a login. SettingsError."""
    if settings.application_credential_id:
        credential = {
            "id": settings.application_credential_id,
            "secret": settings.application_credential_secret.get_secret_value(),
        }
        method = {"methods": ["application_credential"], "application_credential": credential}
        return {"auth": {"identity": method}}
    user = {
        "name": settings.username,
        "domain": _domain(settings.user_domain_id, settings.user_domain_name),
        "password": _password(settings),
    }
    project = {
        "name": settings.project_name,
        "domain": _domain(settings.project_domain_id, settings.project_domain_name),
    }
    identity = {"methods": ["password"], "password": {"user": user}}
    scope = {"system": {"all": True}} if system else {"project": project}
    return {"auth": {"identity": identity, "scope": scope}}


def _domain(domain_id: str, name: str) -> dict[str, str]:
    return {"name": name} if name else {"id": domain_id}


def _password(settings: Settings) -> str:
    path = settings.password_file
    if path is None:
        return settings.password.get_secret_value()
    try:
        return read_private(path).strip()
    except PrivateFileError as error:
        raise SettingsError(f"auth.keystone.password_file: {error}") from error


def _trusted(settings: Settings) -> ssl.SSLContext | bool:
    if settings.insecure:
        return False
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except OSError as error:
        raise SettingsError(f"auth.keystone.ca_file: cannot use {settings.ca_file}") from error
