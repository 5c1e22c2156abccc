"""Callers with real tokens, in a real file."""

import base64
import io
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.kit.gateway import DATA, Answer, Gateway

from tidegate.identity.tokens_file import Token, changing, hash_of, new_token


def issue(
    path: Path, name: str, project: str, *roles: str, expires: datetime | None = None
) -> dict[str, str]:
    """A new token of ``name``; the header by which it is sent."""
    token = new_token()
    with changing(path) as tokens:
        tokens.append(
            Token(
                id=name, sha256=hash_of(token), user=name, project=project, roles=roles,
                expires=expires,
            )
        )  # fmt: skip
    return {"X-Auth-Token": token}


def revoke(path: Path, name: str) -> None:
    with changing(path) as tokens:
        tokens[:] = [token for token in tokens if token.id != name]


def bearer(headers: Mapping[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {headers['X-Auth-Token']}"}


def basic(headers: Mapping[str, str], user: str = "somebody") -> dict[str, str]:
    pair = f"{user}:{headers['X-Auth-Token']}".encode()
    return {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}


def everybody(path: Path) -> dict[str, dict[str, str]]:
    """One caller of each kind: of the owner's project p1, of another, and an administrator."""
    return {
        "admin": issue(path, "admin", "admins", "admin"),
        "manager": issue(path, "manager", "p1", "manager"),
        "owner": issue(path, "owner", "p1", "member"),
        "reader": issue(path, "reader", "p1", "reader"),
        "stranger": issue(path, "stranger", "p2", "member"),
    }


class Callers:
    """A gateway, asked by callers with tokens: ``headers`` by their names."""

    def __init__(self, gate: Gateway, headers: Mapping[str, dict[str, str]]) -> None:
        self.gate = gate
        self.headers = headers

    async def ask(self, caller: str, method: str, path: str, **options: Any) -> Answer:
        headers = {**self.headers[caller], **options.pop("headers", {})}
        return await self.gate.ask(method, path, headers=headers, **options)

    async def queued(self, caller: str = "owner", visibility: str = "private") -> str:
        body = {"disk_format": "raw", "container_format": "bare", "visibility": visibility}
        answer = await self.ask(caller, "POST", "/v2/images", json=body)
        assert answer.status == 201, answer.body
        image_id: str = answer.json["id"]
        return image_id

    async def active(self, data: bytes, caller: str = "owner", visibility: str = "private") -> str:
        image_id = await self.queued(caller, visibility)
        path, headers = f"/v2/images/{image_id}/file", {"Content-Type": DATA}
        answer = await self.ask(caller, "PUT", path, data=io.BytesIO(data), headers=headers)
        assert answer.status == 204, answer.body
        return image_id

    async def act(self, caller: str, action: str, image_id: str, **options: Any) -> Answer:
        return await self.ask(caller, "POST", f"/v2/images/{image_id}/actions/{action}", **options)

    async def status(self, image_id: str) -> str:
        status: str = (await self.ask("admin", "GET", f"/v2/images/{image_id}")).json["status"]
        return status


def ways(image_id: str) -> dict[str, tuple[str, str, dict[str, str]]]:
    """Every way to an image's bytes, or to what tells of them: method, path and headers."""
    v1, v2 = f"/v1/images/{image_id}", f"/v2/images/{image_id}/file"
    return {
        "v2": ("GET", v2, {}),
        "v2 HEAD": ("HEAD", v2, {}),
        "v2 Range": ("GET", v2, {"Range": "bytes=0-0"}),
        "v2 suffix": ("GET", v2, {"Range": "bytes=-1"}),
        "v2 impossible Range": ("GET", v2, {"Range": f"bytes={10**12}-"}),
        "v2 If-Range": ("GET", v2, {"Range": "bytes=0-0", "If-Range": '"x"'}),
        "v2 Content-Range": ("GET", v2, {"Content-Range": "bytes 0-0/*"}),
        "v2 If-None-Match": ("GET", v2, {"If-None-Match": "*"}),
        "v2 HEAD If-None-Match": ("HEAD", v2, {"If-None-Match": "*"}),
        "v2.0": ("GET", v2.replace("/v2/", "/v2.0/"), {}),
        "v1": ("GET", v1, {}),
        "v1 Range": ("GET", v1, {"Range": "bytes=0-0"}),
        "v1 If-None-Match": ("GET", v1, {"If-None-Match": "*"}),
        "v1.1": ("GET", v1.replace("/v1/", "/v1.1/"), {}),
    }
