"""An identity service in this process that answers as told; a real one: ``tests.kit.keystone``."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tidegate.settings import Keystone as Settings

PASSWORD = "k3ystone-pw"


def token_of(user: str = "u1", lasts: float = 3600, **more: Any) -> dict[str, Any]:
    """What is said of a good token; ``more`` replaces members of it, None takes them out."""
    ends = datetime.now(UTC) + timedelta(seconds=lasts)
    domain = {"id": "default", "name": "Default"}
    whole = {
        "methods": ["password"],
        "user": {"id": user, "name": user, "domain": domain},
        "project": {"id": "p1", "name": "one", "domain": domain},
        "is_domain": False,
        "roles": [{"id": "r1", "name": "Member"}, {"id": "r2", "name": "reader"}],
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "expires_at": ends.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        **more,
    }
    return {name: value for name, value in whole.items() if value is not None}


@dataclass
class FakeKeystone:
    """``tokens`` by their text. ``status``: what a validation is answered instead; ``body``: what
    it is answered instead with 200. While ``open`` is not set, nothing is answered."""

    url: str = ""
    tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    status: int | None = None
    body: bytes | None = None
    open: asyncio.Event = field(default_factory=asyncio.Event)
    own: str = ""
    own_lasts: float = 3600
    logins: list[dict[str, Any]] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """Token and query of each validation."""
    shown: dict[str, Any] = field(default_factory=dict)
    """What the account is shown, by the last word of the path; another is 403."""
    looks: list[str] = field(default_factory=list)
    """Paths and queries of what it asked to be shown."""

    def settings(self, **more: Any) -> Settings:
        account = {"url": self.url, "username": "tidegate", "password": PASSWORD}
        return Settings.model_validate({**account, **more})

    async def _log_in(self, request: web.Request) -> web.Response:
        self.logins.append(await request.json())
        await self.open.wait()
        user = self.logins[-1]["auth"]["identity"].get("password", {}).get("user", {})
        if user.get("password", PASSWORD) != PASSWORD:
            return web.json_response({"error": {"code": 401}}, status=401)
        self.own = f"own-{len(self.logins)}"
        said = {"token": token_of("tidegate", self.own_lasts)}
        return web.json_response(said, status=201, headers={"X-Subject-Token": self.own})

    async def _show(self, request: web.Request) -> web.Response:
        self.looks.append(request.path_qs)
        if self.status is not None:
            return web.Response(status=self.status)
        if request.headers["X-Auth-Token"] != self.own:
            return web.Response(status=401)
        name = request.match_info["name"]
        return web.json_response(self.shown.get(name), status=200 if name in self.shown else 403)

    async def _validate(self, request: web.Request) -> web.Response:
        token = request.headers["X-Subject-Token"]
        self.asked.append((token, request.query_string))
        await self.open.wait()
        if self.status is not None:
            return web.Response(status=self.status, text=f"Could not find token: {token}")
        if self.body is not None:
            return web.Response(body=self.body)
        if request.headers["X-Auth-Token"] != self.own:
            return web.json_response({"error": {"code": 401}}, status=401)
        said = self.tokens.get(token)
        over = said is not None and datetime.fromisoformat(said["expires_at"]) < datetime.now(UTC)
        hidden = said is not None and "application_credential" in said
        if hidden and request.headers.get("OpenStack-Identity-Access-Rules") != "1.0":
            said = None
        if said is None or (over and request.query.get("allow_expired") != "1"):
            return web.json_response(
                {"error": {"code": 404, "message": f"Could not find token: {token}"}}, status=404
            )
        return web.json_response({"token": said})


@asynccontextmanager
async def fake_keystone(certificate: Path | None = None) -> AsyncIterator[FakeKeystone]:
    """``certificate``: with its key; it is served by TLS then."""
    fake = FakeKeystone()
    fake.open.set()
    app = web.Application()
    app.router.add_post("/v3/auth/tokens", fake._log_in)
    app.router.add_get("/v3/auth/tokens", fake._validate, allow_head=False)
    app.router.add_get("/v3/{name}", fake._show)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    tls = None
    if certificate is not None:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    scheme = "http" if tls is None else "https"
    fake.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}/v3"
    try:
        yield fake
    finally:
        fake.open.set()
        await runner.cleanup()


def self_signed(path: Path) -> Path:
    """A new certificate of 127.0.0.1 and its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
