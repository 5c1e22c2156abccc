"""A gateway behind a real Keystone: who is let in, who may do what, and OpenStack's own clients."""

import io
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.kit.gateway import DATA, Answer, Gateway, running
from tests.kit.keystone import SERVICE_PASSWORD, Keystone
from tests.kit.server import Server, configure, until
from tests.kit.stores import FaultyStore
from tests.kit.tokens import Callers

from tidegate.stores.memory import MemoryStore

pytestmark = pytest.mark.timeout(300)  # the first test waits until Keystone is up

NEW = {"disk_format": "raw", "container_format": "bare"}


def header(token: str) -> dict[str, str]:
    return {"X-Auth-Token": token}


@pytest.fixture
async def gate(keystone: Keystone, tmp_path: Path) -> AsyncIterator[Gateway]:
    """Which asks Keystone at each request."""
    auth = keystone.settings(cache="0s", refusal_cache="0s")
    async with running(FaultyStore(MemoryStore()), tmp_path, auth=auth) as found:
        yield found


@pytest.fixture
def callers(keystone: Keystone, gate: Gateway) -> Callers:
    names = {"admin": "adm1", "owner": "mem1", "reader": "rea1", "stranger": "mem2"}
    return Callers(gate, {role: header(keystone.token(name)) for role, name in names.items()})


async def listed(gate: Gateway, token: str, **headers: str) -> Answer:
    given = {"X-Auth-Token": token, **{name.replace("_", "-"): v for name, v in headers.items()}}
    return await gate.ask("GET", "/v2/images", headers=given)


# who may do what


async def test_a_projects_images_are_its_own(callers: Callers, keystone: Keystone) -> None:
    image_id = await callers.active(b"bytes", "owner")
    image, file = f"/v2/images/{image_id}", f"/v2/images/{image_id}/file"
    shown = (await callers.ask("owner", "GET", image)).json
    assert shown["owner"] == keystone.ids["p1"]
    patch = {
        "json": [{"op": "add", "path": "/name", "value": "x"}],
        "headers": {"Content-Type": "application/openstack-images-v2.1-json-patch"},
    }
    data = {"data": io.BytesIO(b"x"), "headers": {"Content-Type": DATA}}
    for method, path, options in [
        ("GET", image, {}), ("GET", file, {}), ("PATCH", image, patch), ("PUT", file, data),
        ("DELETE", image, {}), ("POST", f"{image}/actions/deactivate", {}),
    ]:  # fmt: skip
        answer = await callers.ask("stranger", method, path, **options)
        assert (method, path, answer.status) == (method, path, 404)
    found = await callers.ask("stranger", "GET", "/v2/images")
    assert found.json["images"] == []
    assert (await callers.ask("admin", "GET", file)).body == b"bytes"


async def test_roles(callers: Callers) -> None:
    image_id = await callers.active(b"bytes", "owner")
    image, file = f"/v2/images/{image_id}", f"/v2/images/{image_id}/file"
    assert (await callers.ask("reader", "GET", image)).status == 200
    assert (await callers.ask("reader", "GET", file)).status == 403
    assert (await callers.ask("reader", "POST", "/v2/images", json=NEW)).status == 403
    assert (await callers.ask("reader", "DELETE", image)).status == 403
    public = {**NEW, "visibility": "public"}
    assert (await callers.ask("owner", "POST", "/v2/images", json=public)).status == 403
    other = {**NEW, "owner": "somebody"}
    assert (await callers.ask("owner", "POST", "/v2/images", json=other)).status == 403
    assert (await callers.ask("owner", "GET", "/v2/tasks")).status == 403
    assert (await callers.ask("admin", "POST", "/v2/images", json=public)).status == 201
    assert (await callers.ask("owner", "DELETE", image)).status == 204


async def test_without_a_project_there_are_no_images(
    callers: Callers, keystone: Keystone, gate: Gateway
) -> None:
    image_id = await callers.queued("owner")
    for scope in ("unscoped", {"system": {"all": True}}):
        token = header(keystone.token("adm1", scope=scope))
        statuses = [
            (await gate.ask("GET", "/v2/images", headers=token)).status,
            (await gate.ask("POST", "/v2/images", headers=token, json=NEW)).status,
            (await gate.ask("GET", f"/v2/images/{image_id}", headers=token)).status,
        ]
        assert statuses == [403, 403, 404]


# who is let in


async def refused(gate: Gateway, keystone: Keystone, token: str) -> Answer:
    answer = await listed(gate, token)
    assert answer.status == 401
    assert answer.headers["WWW-Authenticate"] == f'Keystone uri="{keystone.url}"'
    assert answer.message == "The request you have made requires authentication."
    return answer


async def test_bad_expired_and_revoked_tokens_and_those_of_disabled_users(
    gate: Gateway, keystone: Keystone
) -> None:
    revoked, disabled = keystone.token("mem1"), keystone.token("mem2")
    for token in (revoked, disabled):
        assert (await listed(gate, token)).status == 200
    keystone.revoke(revoked)
    keystone.set_enabled("mem2", False)
    try:
        await refused(gate, keystone, disabled)
    finally:
        keystone.set_enabled("mem2", True)
    await refused(gate, keystone, revoked)
    await refused(gate, keystone, "gAAAA" + "x" * 178)
    await refused(gate, keystone, "")
    brief = keystone.token("mem1", lasts=1)
    await until(lambda: over(gate, brief), "the token to expire")
    await refused(gate, keystone, brief)


async def over(gate: Gateway, token: str) -> bool:
    return (await listed(gate, token)).status == 401


async def test_a_revocation_is_heeded_within_the_set_time(
    keystone: Keystone, tmp_path: Path
) -> None:
    store = FaultyStore(MemoryStore())
    async with running(store, tmp_path, auth=keystone.settings(cache="1s")) as gate:
        token = keystone.token("mem1")
        assert (await listed(gate, token)).status == 200
        keystone.revoke(token)
        await until(lambda: over(gate, token), "the token to be refused", within=10)


async def test_an_upload_outlives_its_token(
    callers: Callers, keystone: Keystone, gate: Gateway
) -> None:
    image_id = await callers.queued("owner")
    token = keystone.token("mem1", lasts=3)

    async def body() -> AsyncIterator[bytes]:
        yield b"before"
        await until(lambda: over(gate, token), "the token to expire")
        yield b"after"

    answer = await gate.ask(
        "PUT", f"/v2/images/{image_id}/file", data=body(),
        headers={**header(token), "Content-Type": DATA},
    )  # fmt: skip
    assert answer.status == 204
    assert (await callers.ask("owner", "GET", f"/v2/images/{image_id}/file")).body == b"beforeafter"
    assert await callers.status(image_id) == "active"


async def test_with_a_services_token_an_expired_one_will_do(
    gate: Gateway, keystone: Keystone
) -> None:
    brief = keystone.token("mem1", lasts=1)
    await until(lambda: over(gate, brief), "the token to expire")
    nova, user = keystone.token("nova"), keystone.token("mem2")
    assert (await listed(gate, brief, X_Service_Token=nova)).status == 200
    assert (await listed(gate, brief, X_Service_Token=user)).status == 401
    assert (await listed(gate, brief, X_Service_Token="bad")).status == 401
    assert (await listed(gate, brief, X_Service_Token=brief)).status == 401
    # and the service's role is not the user's
    answer = await gate.ask(
        "GET", "/v2/tasks", headers={"X-Auth-Token": user, "X-Service-Token": nova}
    )
    assert answer.status == 403


async def test_application_credentials_and_their_access_rules(
    gate: Gateway, keystone: Keystone
) -> None:
    free = keystone.token_of_credential(keystone.credential("mem1"))
    rules = (("GET", "/v2/images"), ("GET", "/v2/images/*"))
    ruled = keystone.token_of_credential(keystone.credential("mem1", *rules))
    answer = await gate.ask("POST", "/v2/images", json=NEW, headers=header(free))
    assert answer.status == 201
    image = f"/v2/images/{answer.json['id']}"
    found = [
        (await gate.ask(method, path, headers=header(ruled))).status
        for method, path in [("GET", "/v2/images"), ("GET", image), ("DELETE", image),
                             ("GET", f"{image}/file"), ("HEAD", f"{image}/file")]
    ]  # fmt: skip
    assert found == [200, 200, 401, 401, 401]


# our own account


async def test_our_account_may_be_an_application_credential(
    keystone: Keystone, tmp_path: Path
) -> None:
    credential = keystone.credential("tidegate")
    auth = keystone.settings(
        username="", password="", application_credential_id=credential["id"],
        application_credential_secret=credential["secret"],
    )  # fmt: skip
    async with running(FaultyStore(MemoryStore()), tmp_path, auth=auth) as gate:
        assert (await listed(gate, keystone.token("mem1"))).status == 200


@pytest.mark.parametrize(
    "account",
    [
        {"username": "mem2", "password": "mem2", "project_name": "p2"},
        {"password": "wrong"},
        {"project_name": "p1"},
    ],
    ids=["may not validate", "wrong password", "wrong project"],
)
async def test_a_fault_of_our_account_is_not_the_callers(
    keystone: Keystone, tmp_path: Path, account: dict[str, str]
) -> None:
    auth = keystone.settings(**account)
    async with running(FaultyStore(MemoryStore()), tmp_path, auth=auth) as gate:
        answer = await listed(gate, keystone.token("mem1"))
    assert answer.status == 503
    assert answer.headers["Retry-After"] == "5"


# the installed gateway and OpenStack's clients


@pytest.fixture(scope="module")
def server(keystone: Keystone, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("gateway")
    password = folder / "password"
    password.touch(0o600)
    password.write_text(SERVICE_PASSWORD, encoding="utf-8")
    store = {"type": "filesystem", "id": "local", "path": str(folder / "images")}
    account = {"username": "tidegate", "password_file": str(password), "url": keystone.url}
    path = configure(folder, [store], auth={"mode": "keystone"}, **{"auth.keystone": account})
    with Server(folder, "--config", str(path)) as found:
        keystone.set_image_endpoint(found.url)
        yield found


def test_openstackclient_finds_the_gateway_by_the_catalog(
    server: Server, keystone: Keystone, tmp_path: Path
) -> None:
    source, copy = tmp_path / "disk.raw", tmp_path / "copy.raw"
    source.write_bytes(b"\x00\x01bytes" * 50_000)
    made = keystone.client("mem1", "openstack", "image", "create", "--disk-format", "raw",
                           "--file", str(source), "-f", "json", "disk")  # fmt: skip
    assert made.code == 0, made.err
    image = json.loads(made.out)
    assert image["owner"] == keystone.ids["p1"]
    saved = keystone.client("mem1", "openstack", "image", "save", "--file", str(copy), "disk")
    assert saved.code == 0, saved.err
    assert copy.read_bytes() == source.read_bytes()
    stranger = keystone.client("mem2", "openstack", "image", "show", image["id"])
    assert stranger.code == 1
    assert "No Image found" in stranger.err


SDK = """
import openstack
cloud = openstack.connect()
image = cloud.image.create_image(
    name="sdk", disk_format="raw", container_format="bare", filename="{source}")
assert cloud.image.get_image(image).status == "active"
assert cloud.image.download_image(image).content == open("{source}", "rb").read()
assert [found.id for found in cloud.image.images(name="sdk")] == [image.id]
cloud.image.delete_image(image)
assert cloud.image.find_image("sdk") is None
"""


def test_openstacksdk_too(server: Server, keystone: Keystone, tmp_path: Path) -> None:
    source = tmp_path / "disk.raw"
    source.write_bytes(b"sdk" * 100_000)
    done = keystone.client("mem1", "python", "-c", SDK.replace("{source}", str(source)))
    assert done.code == 0, done.err


def test_no_token_and_no_password_is_in_its_log(server: Server) -> None:
    assert len(server.events) > 5
    assert "gAAAA" not in server.log
    assert SERVICE_PASSWORD not in server.log
