"""``tidegate scrub`` and ``adopt``: the installed command beside a running gateway."""

import hashlib
import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.kit.command import Outcome, Serving, run, serving, wait_for
from tests.kit.sources import pattern

DATA = pattern(3_000_001)
SETTINGS = {
    "TIDEGATE_UPLOADS__LEASE": "1s",
    "TIDEGATE_FETCH__ALLOW": "127.0.0.1",
    "TIDEGATE_LOCATIONS__SHOW": "true",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a gateway without a configuration: catalog and images lie in it."""
    return tmp_path_factory.mktemp("gateway")


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[Serving]:
    with serving(folder, **SETTINGS) as found:
        yield found


class Mirror(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(DATA)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(DATA)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def mirror() -> Iterator[str]:
    """The URL of the same bytes on another server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/copy.raw"
        server.shutdown()


def told(outcome: Outcome, code: int = 0) -> Any:
    assert outcome.code == code, outcome
    return json.loads(outcome.out)


def show(gateway: Serving, image_id: str) -> dict[str, Any]:
    status, body = gateway.ask(f"/v2/images/{image_id}")
    assert status == 200
    image: dict[str, Any] = json.loads(body)
    return image


def push(folder: Path, gateway: Serving) -> tuple[str, Path]:
    """An active image, and the file in which its bytes lie."""
    (folder / "disk.raw").write_bytes(DATA)
    pushed = run("image", "push", "disk.raw", "--name", "disk", "--json",
                 folder=folder, environ={"TIDEGATE_URL": gateway.url})  # fmt: skip
    image_id = told(pushed)["id"]
    (path,) = (folder / "images" / image_id).iterdir()
    return image_id, path


def flip(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(1_234_567)
        byte = file.read(1)[0]
        file.seek(1_234_567)
        file.write(bytes([byte ^ 1]))


def test_a_flipped_byte_is_found_beside_a_live_gateway(folder: Path, gateway: Serving) -> None:
    image_id, path = push(folder, gateway)
    sound = run("scrub", "--image", image_id, "--rate", "0", "--json", folder=folder)
    assert told(sound) == {"verdicts": {"good": 1}, "findings": []}
    again = run("scrub", "--image", image_id, "--older-than", "1d", "--json", folder=folder)
    assert told(again)["verdicts"] == {}

    flip(path)
    wrong = run("scrub", "--image", image_id, "--rate", "1GiB", "--json", folder=folder)
    (finding,) = told(wrong, code=1)["findings"]
    assert (finding["image_id"], finding["verdict"]) == (image_id, "wrong")
    assert "md5 digest" in finding["message"]
    assert '"stored bytes are not right"' in wrong.err
    assert show(gateway, image_id)["status"] == "deactivated"
    attempts = json.loads(gateway.ask(f"/v2/images/{image_id}/uploads")[1])["uploads"]
    assert attempts[-1]["failure"]["reason"] == "wrong_bytes"

    told_to_people = run("scrub", "--image", image_id, folder=folder)
    assert told_to_people.code == 1
    assert b"1 wrong" in told_to_people.out


@pytest.mark.parametrize("point", ["repair_started", "repair_copied", "repair_swapped"])
def test_killed_while_it_mends_a_live_gateway_takes_back_what_is_left(
    folder: Path, gateway: Serving, mirror: str, point: str
) -> None:
    image_id, path = push(folder, gateway)
    step = {"op": "add", "path": "/locations/-", "value": {"url": mirror, "metadata": {}}}
    status, body = gateway.ask(
        f"/v2/images/{image_id}", json.dumps([step]).encode(), method="PATCH",
        kind="application/openstack-images-v2.1-json-patch",
    )  # fmt: skip
    assert status == 200, body
    arguments = ("scrub", "--image", image_id, "--rate", "0", "--json")
    assert left(run(*arguments, folder=folder, environ=SETTINGS)) == {"good": 2}
    flip(path)
    killed = run(*arguments, folder=folder, environ={**SETTINGS, "TIDEGATE_KILL": point})
    assert killed.code == -signal.SIGKILL

    def settled() -> bool:
        attempts = json.loads(gateway.ask(f"/v2/images/{image_id}/uploads")[1])["uploads"]
        files = list(path.parent.iterdir())
        return len(files) == 1 and {one["state"] for one in attempts} <= {"done", "failed"}

    wait_for(settled, "the janitor to take back what the dead one left")
    verdict = "good" if point == "repair_swapped" else "repaired"
    again = wait_for(lambda: left(run(*arguments, folder=folder, environ=SETTINGS)), "its lease")
    assert again == {verdict: 1}
    (mended,) = path.parent.iterdir()
    assert mended != path
    assert mended.read_bytes() == DATA
    assert show(gateway, image_id)["status"] == "active"


def left(outcome: Outcome) -> Any:
    """What was read; nothing while the dead one still has it."""
    return told(outcome)["verdicts"]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--rate", "fast"), 2),
        (("--older-than", "yesterday"), 2),
        (("--image", "00000000-0000-0000-0000-000000000000"), 1),
    ],
)
def test_what_scrub_does_not_understand(
    folder: Path, gateway: Serving, arguments: tuple[str, ...], code: int
) -> None:
    done = run("scrub", *arguments, folder=folder)
    assert (done.code, done.out) == (code, b"")
    assert arguments[1] in done.err


def test_an_object_that_lies_there_becomes_an_image(folder: Path, gateway: Serving) -> None:
    place = folder / "images" / "old"
    place.mkdir()
    (place / "debian").write_bytes(DATA)
    arguments = ("adopt", "--store", "local", "--disk-format", "qcow2", "--json")
    dry = run(*arguments, "--dry-run", "old/debian", folder=folder)
    assert told(dry)[0]["message"] == "would be adopted"
    (done,) = told(run(*arguments, "old/debian", folder=folder))
    image = show(gateway, done["image_id"])
    assert (image["name"], image["status"], image["size"]) == ("debian", "active", len(DATA))
    assert image["os_hash_value"] == hashlib.sha512(DATA).hexdigest()
    assert gateway.ask(f"/v2/images/{image['id']}/file") == (200, DATA)

    (again,) = told(run(*arguments, "--prefix", "old/", "--all", folder=folder))
    assert again["image_id"] is None
    assert image["id"] in again["message"]

    assert gateway.ask(f"/v2/images/{image['id']}", method="DELETE")[0] == 204
    assert (place / "debian").read_bytes() == DATA


def test_handed_over_an_object_goes_with_its_image(folder: Path, gateway: Serving) -> None:
    place = folder / "images" / "given"
    place.mkdir()
    (place / "disk").write_bytes(DATA)
    done = run("adopt", "--store", "local", "--own", "given/disk", folder=folder)
    assert done.code == 0
    listed = json.loads(gateway.ask("/v2/images?name=disk&sort=created_at:desc")[1])["images"]
    assert gateway.ask(f"/v2/images/{listed[0]['id']}", method="DELETE")[0] == 204
    assert not (place / "disk").exists()


def test_what_cannot_be_adopted_fails_and_the_rest_is_done(folder: Path, gateway: Serving) -> None:
    place = folder / "images" / "some"
    place.mkdir()
    (place / "x").write_bytes(b"x")
    arguments = ("adopt", "--store", "local", "--json", "--prefix", "some/")
    missing, made = told(run(*arguments, "nothing", "x", folder=folder), code=1)
    assert (missing["image_id"], "no such object" in missing["message"]) == (None, True)
    assert made["image_id"] is not None


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (("--store", "local"), 2, "--all"),
        (("--store", "local", "--all", "a/b"), 2, "--all"),
        (("--store", "local", "--disk-format", "floppy", "a/b"), 2, "floppy"),
        (("--store", "elsewhere", "a/b"), 1, "there are: local"),
    ],
)
def test_what_adopt_does_not_understand(
    folder: Path, gateway: Serving, arguments: tuple[str, ...], code: int, word: str
) -> None:
    done = run("adopt", *arguments, folder=folder)
    assert done.code == code
    assert word in done.err


def test_without_a_catalog_nothing_is_scrubbed_and_none_is_made(tmp_path: Path) -> None:
    done = run("scrub", folder=tmp_path)
    assert (done.code, done.out) == (1, b"")
    assert "no catalog" in done.line
    assert list(tmp_path.iterdir()) == []


def test_a_key_of_odd_characters_is_shown_as_it_is(folder: Path, gateway: Serving) -> None:
    place = folder / "images" / "odd"
    place.mkdir()
    (place / "[bold]x").write_bytes(b"x")
    done = run("adopt", "--store", "local", "--all", "--prefix", "odd/", folder=folder)
    assert done.code == 1
    assert b"[bold]x" in done.out
