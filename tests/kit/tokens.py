"""Callers with real tokens, in a real file."""

import base64
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

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
