"""Every route that needs a token, and what each kind of caller is told of another's private image.

The table was gone through by hand; 400, 405, 409 and 415 are said to who is let in, where there is
nothing to do. A route without a row fails, so that nobody forgets to ask who may.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.kit.gateway import ABSENT, V21, running
from tests.kit.stores import FaultyStore
from tests.kit.tokens import Callers, everybody

from tidegate.api.journal import OPEN
from tidegate.api.routes import DATA_ROUTES, ROUTES
from tidegate.catalog.engine import Database

CALLERS = ("nobody", "stranger", "reader", "owner", "admin")

TABLE = """
POST   /v2/images                                    | 401 201 403 201 201
GET    /v2/images                                    | 401 200 200 200 200
GET    /v2/images/{image_id}                         | 401 404 200 200 200
PATCH  /v2/images/{image_id}                         | 401 404 403 200 200
DELETE /v2/images/{image_id}                         | 401 404 403 204 204
GET    /v2/images/{image_id}/file                    | 401 404 403 200 200
HEAD   /v2/images/{image_id}/file                    | 401 404 403 200 200
GET    /v2/images/{image_id}/uploads                 | 401 404 200 200 200
POST   /v2/images/{image_id}/actions/deactivate      | 401 404 403 204 204
POST   /v2/images/{image_id}/actions/reactivate      | 401 404 403 204 204
PUT    /v2/images/{image_id}/tags/{tag}              | 401 404 403 204 204
DELETE /v2/images/{image_id}/tags/{tag}              | 401 404 403 404 404
POST   /v2/images/{image_id}/import                  | 401 404 409 409 409
GET    /v2/info/import                               | 401 200 200 200 200
GET    /v2/images/{image_id}/members                 | 401 404 403 403 403
POST   /v2/images/{image_id}/members                 | 401 404 403 403 403
GET    /v2/images/{image_id}/members/{member}        | 401 404 404 404 404
PUT    /v2/images/{image_id}/members/{member}        | 401 404 403 403 403
DELETE /v2/images/{image_id}/members/{member}        | 401 404 403 403 403
GET    /v2/images/{image_id}/locations               | 401 404 403 403 200
POST   /v2/images/{image_id}/locations               | 401 404 409 409 409
GET    /v2/images/{image_id}/tasks                   | 401 404 200 200 200
GET    /v2/info/stores                               | 401 200 200 200 200
GET    /v2/info/stores/detail                        | 401 403 403 403 200
GET    /v2/info/usage                                | 401 200 200 200 200
DELETE /v2/stores/{store_id}/{image_id}              | 401 404 403 403 403
GET    /v2/tasks                                     | 401 403 403 403 200
POST   /v2/tasks                                     | 401 403 403 403 400
GET    /v2/tasks/{task_id}                           | 401 403 403 403 404
DELETE /v2/tasks/{task_id}                           | 401 403 403 403 405
GET    /v2/cache                                     | 401 403 403 403 200
DELETE /v2/cache                                     | 401 403 403 403 204
PUT    /v2/cache/{image_id}                          | 401 404 403 403 202
DELETE /v2/cache/{image_id}                          | 401 404 403 403 204
GET    /v2/schemas/{name}                            | 401 200 200 200 200
GET    /v2/schemas/metadefs/{name}                   | 401 404 404 404 404
GET    /v1/                                          | 401 200 200 200 200
GET    /v1/images                                    | 401 200 200 200 200
GET    /v1/images/detail                             | 401 200 200 200 200
*      /v1/images/detail                             | 401 200 200 200 200
GET    /v1/images/{image_id}/members                 | 401 404 200 200 200
PUT    /v1/images/{image_id}/members                 | 401 404 404 403 403
PUT    /v1/images/{image_id}/members/{member}        | 401 404 404 403 403
DELETE /v1/images/{image_id}/members/{member}        | 401 404 404 404 404
GET    /v1/shared-images/{member}                    | 401 200 200 200 200
GET    /v1/images/{image_id}                         | 401 404 403 200 200
HEAD   /v1/images/{image_id}                         | 401 404 200 200 200
DELETE /v1/images/{image_id}                         | 401 404 403 200 200
PUT    /v2/images/{image_id}/file                    | 401 404 403 409 409
PUT    /v2/images/{image_id}/stage                   | 401 404 403 409 409
POST   /v1/images                                    | 401 201 403 201 201
PUT    /v1/images/{image_id}                         | 401 404 403 200 200
"""
"""Of nobody, a stranger, the owner's reader, the owner, an administrator."""

RENAME = [{"op": "replace", "path": "/name", "value": "x"}]
BODIES: dict[tuple[str, str], object] = {
    ("POST", "/v2/images"): {"name": "x"},
    ("PATCH", "/v2/images/{image_id}"): RENAME,
    ("POST", "/v2/images/{image_id}/import"): {"method": {"name": "glance-direct"}},
    ("POST", "/v2/images/{image_id}/members"): {"member": "p3"},
    ("PUT", "/v2/images/{image_id}/members/{member}"): {"status": "accepted"},
    ("POST", "/v2/images/{image_id}/locations"): {"url": "http://127.0.0.1/x"},
    ("PUT", "/v1/images/{image_id}/members"): {"memberships": []},
}

ROWS = {
    (line.split()[0], line.split()[1]): [int(code) for code in line.split("|")[1].split()]
    for line in TABLE.strip().splitlines()
}
CLOSED = [
    (method, path)
    for method, path, _ in (*ROUTES, *DATA_ROUTES)
    # those of metadata definitions: test_metadefs_matrix.py
    if path not in OPEN and not path.startswith("/v2/metadefs")
]


@pytest.fixture
async def callers(store: FaultyStore, tmp_path: Path) -> AsyncIterator[Callers]:
    headers = {**everybody(tmp_path / "tokens.toml"), "nobody": {}}
    auth = {"mode": "tokens", "tokens_file": str(tmp_path / "tokens.toml")}
    cache = {"enabled": True, "path": str(tmp_path / "cache")}
    async with running(store, tmp_path, auth=auth, cache=cache) as gate:
        yield Callers(gate, headers)


async def told(callers: Callers, method: str, path: str) -> list[int]:
    found = []
    for caller in CALLERS:
        image_id = await callers.active(b"abc")
        names = {"image_id": image_id, "member": "p3", "tag": "t", "task_id": image_id,
                 "store_id": callers.gate.store.id, "name": "image"}  # fmt: skip
        sent: dict[str, Any] = {}
        if (body := BODIES.get((method, path))) is not None:
            kind = V21 if method == "PATCH" else "application/json"
            sent = {"data": json.dumps(body), "headers": {"Content-Type": kind}}
        asked = method.replace("*", "GET"), path.format(**names)
        answer = await callers.ask(caller, *asked, **sent)
        found.append(answer.status)
    return found


def test_sec_66_every_route_has_a_row() -> None:
    assert set(CLOSED) == set(ROWS)


@pytest.mark.parametrize(("method", "path"), ROWS)
async def test_sec_66_who_is_told_what(callers: Callers, method: str, path: str) -> None:
    assert await told(callers, method, path) == ROWS[method, path]


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/v2/images/{}"), ("GET", "/v2/images/{}/file"), ("HEAD", "/v2/images/{}/file"),
     ("DELETE", "/v2/images/{}"), ("GET", "/v1/images/{}"), ("DELETE", "/v1/images/{}")],
)  # fmt: skip
async def test_sec_47_the_hidden_and_the_absent_cost_the_same(
    callers: Callers, store: FaultyStore, monkeypatch: pytest.MonkeyPatch, method: str, path: str
) -> None:
    hidden = await callers.active(b"abc")
    asked: Counter[str] = Counter()

    def counting(name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any) -> Any:
            asked[name] += 1
            return do(*given)

        return counted

    for name in ("hot_row", "rows", "transaction"):
        monkeypatch.setattr(Database, name, counting(name, getattr(Database, name)))
    store.calls.clear()
    cost = []
    for image_id in (hidden, ABSENT):
        asked.clear()
        answer = await callers.ask("stranger", method, path.format(image_id))
        assert answer.status == 404
        cost.append(dict(asked))
    assert cost[0] == cost[1] == {"hot_row": 1}
    assert store.calls == []
