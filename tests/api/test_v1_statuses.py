"""Image API v1: which call may meet an image in which status, and what it is told."""

import pytest
from tests.kit.gateway import DATA, Gateway
from tests.kit.identity import ADMIN
from tests.kit.v1 import OWNER, in_status, listed, meta

from tidegate.catalog.sql import SqlCatalog
from tidegate.domain.status import Status

STATUSES = ("queued", "saving", "uploading", "importing", "active", "deactivated", "killed",
            "pending_delete", "deleted")  # fmt: skip
TYPED = {"Content-Type": DATA}
JSON = {"Content-Type": "application/json"}
COPY = {"x-glance-api-copy-from": "http://127.0.0.1:80/x", **meta(size=5)}
LOCATION = meta(location="http://127.0.0.1:80/x", size=5)

CALLS: dict[str, tuple[str, str, dict[str, str], bytes | None]] = {
    "HEAD": ("HEAD", "", {}, None),
    "GET": ("GET", "", {}, None),
    "PUT metadata": ("PUT", "", meta(name="new"), None),
    "PUT formats": ("PUT", "", meta(disk_format="iso"), None),
    "PUT size": ("PUT", "", meta(size=9), None),
    "PUT checksum": ("PUT", "", meta(checksum="0" * 32), None),
    "PUT other status": ("PUT", "", meta(status="nonsense"), None),
    "PUT body": ("PUT", "", TYPED, b"other"),
    "PUT location": ("PUT", "", LOCATION, None),
    "PUT copy-from": ("PUT", "", COPY, None),
    "DELETE": ("DELETE", "", {}, None),
    "list members": ("GET", "/members", {}, None),
    "PUT member": ("PUT", "/members/p2", {}, None),
    "PUT members": ("PUT", "/members", JSON, b'{"memberships": []}'),
    "DELETE member": ("DELETE", "/members/p9", {}, None),
}

# as non-admin/admin where they differ; in the order of STATUSES
TABLE = """
HEAD             | 200 200 200 200 200 200 200 404/200 404/200
GET              | 404 404 404 404 200 403 404 404     404
PUT metadata     | 200 200 200 200 200 200 200 404/200 404/403
PUT formats      | 200 200 200 200 200 200 200 404/200 404/403
PUT size         | 200 200 200 200 403 403 200 404/200 404/403
PUT checksum     | 200 200 200 200 403 403 200 404/200 404/403
PUT other status | 403 403 403 403 403 403 403 404/403 404/403
PUT body         | 200 409 409 409 409 409 409 404/409 404/403
PUT location     | 200 400 400 400 400 400 400 404/400 404/403
PUT copy-from    | 200 400 400 400 400 400 400 404/400 404/403
DELETE           | 200 200 200 200 200 200 200 404/403 404
list members     | 200 200 200 200 200 200 200 404/200 404
PUT member       | 204 204 204 204 204 204 204 404/204 404
PUT members      | 204 204 204 204 204 204 204 404/204 404
DELETE member    | 204 204 204 204 204 204 204 404/204 404
"""
ROWS = {
    call.strip(): codes.split()
    for call, codes in (line.split("|") for line in TABLE.strip().splitlines())
}


def test_the_table_knows_every_status_and_call() -> None:
    assert set(STATUSES) == set(Status)
    assert ROWS.keys() == CALLS.keys()
    assert {len(codes) for codes in ROWS.values()} == {len(STATUSES)}


@pytest.mark.parametrize("who", ["owner", "admin"])
@pytest.mark.parametrize("call", ROWS)
async def test_what_a_call_is_told(
    shared_gate: Gateway, catalog: SqlCatalog, call: str, who: str
) -> None:
    method, path, headers, data = CALLS[call]
    told = {}
    for status in STATUSES:
        image_id = await in_status(shared_gate, catalog, Status(status))
        answer = await shared_gate.ask(
            method,
            f"/v1/images/{image_id}{path}",
            headers={**(ADMIN if who == "admin" else OWNER), **headers},
            data=data,
        )
        told[status] = str(answer.status)
        if answer.status >= 400 and method != "HEAD":
            assert answer.message
    side = 1 if who == "admin" else 0
    expected = [(codes.split("/") * 2)[side] for codes in ROWS[call]]
    assert told == dict(zip(STATUSES, expected, strict=True))


@pytest.mark.parametrize("status", STATUSES)
async def test_what_lists_show(shared_gate: Gateway, catalog: SqlCatalog, status: str) -> None:
    await in_status(shared_gate, catalog, Status(status), name="x")
    unseen = status in ("killed", "pending_delete", "deleted")
    for path in ("/v1/images", "/v1/images/detail"):
        assert await listed(shared_gate, path=path) == ([] if unseen else ["x"])
        assert await listed(shared_gate, path=path, status=status) == ([] if unseen else ["x"])
        since = await listed(shared_gate, path=path, changes_since="2001-01-01T00:00:00Z")
        assert since == ["x"]


@pytest.mark.parametrize("status", ["pending_delete", "deleted"])
async def test_an_admin_sees_what_is_gone(
    shared_gate: Gateway, catalog: SqlCatalog, status: str
) -> None:
    image_id = await in_status(shared_gate, catalog, Status(status))
    answer = await shared_gate.ask("HEAD", f"/v1/images/{image_id}", headers=ADMIN)
    assert answer.headers["x-image-meta-deleted"] == "True"
    assert answer.headers["x-image-meta-status"] == status
    assert ("x-image-meta-deleted_at" in answer.headers) is (status == "deleted")


async def test_what_is_not_deleted_says_so(shared_gate: Gateway, catalog: SqlCatalog) -> None:
    image_id = await in_status(shared_gate, catalog, Status.KILLED)
    answer = await shared_gate.ask("HEAD", f"/v1/images/{image_id}", headers=OWNER)
    assert answer.headers["x-image-meta-deleted"] == "False"
    assert answer.headers["x-image-meta-status"] == "killed"
    assert "x-image-meta-deleted_at" not in answer.headers


@pytest.mark.parametrize("status", ["saving", "killed"])
async def test_what_was_announced_is_shown_of_an_image_without_data(
    shared_gate: Gateway, catalog: SqlCatalog, status: str
) -> None:
    image_id = await in_status(shared_gate, catalog, Status(status), size=7, checksum="a" * 32)
    answer = await shared_gate.ask("HEAD", f"/v1/images/{image_id}", headers=OWNER)
    assert answer.headers["x-image-meta-size"] == "7"
    assert answer.headers["x-image-meta-checksum"] == "a" * 32
    assert "ETag" not in answer.headers
