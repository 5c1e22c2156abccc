"""``tidegate image``: the installed command against a running gateway."""

import hashlib
import json
import os
import pty
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.kit.command import COMMAND, Outcome, Serving, environment, run, serving
from tests.kit.sources import pattern

from tidegate.cli import main

MIB = 2**20
QCOW2 = b"QFI\xfb\x00\x00\x00\x03" + bytes(504)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    allow = {"TIDEGATE_FETCH__ALLOW": "127.0.0.1", "TIDEGATE_LOCATIONS__SHOW": "true"}
    with serving(tmp_path_factory.mktemp("gateway"), **allow) as found:
        yield found


class Shell:
    """Runs ``tidegate image`` in a folder of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url

    def __call__(self, *arguments: str, given: bytes = b"", **environ: str) -> Outcome:
        return run(
            "image", *arguments, folder=self.folder, given=given,
            environ={"TIDEGATE_URL": self.url, **environ},
        )  # fmt: skip

    def image(self, *arguments: str, given: bytes = b"") -> dict[str, Any]:
        """What a command that must succeed prints with --json."""
        found = self(*arguments, "--json", given=given)
        assert (found.code, found.err) == (0, "")
        image: dict[str, Any] = json.loads(found.out)
        return image

    def fails(self, *arguments: str, given: bytes = b"", **environ: str) -> str:
        """Exit code 1, nothing on standard output, one line on standard error: that line."""
        found = self(*arguments, given=given, **environ)
        assert (found.code, found.out) == (1, b""), found
        assert found.line.startswith("tidegate: ")
        return found.line


@pytest.fixture
def shell(tmp_path: Path, gateway: Serving) -> Shell:
    return Shell(tmp_path, gateway.url)


def active(gateway: Serving, data: bytes, **fields: Any) -> str:
    """An image made without the command; its id."""
    body = {"disk_format": "raw", "container_format": "bare", **fields}
    status, answer = gateway.ask("/v2/images", json.dumps(body).encode(), kind="application/json")
    assert status == 201, answer
    image_id: str = json.loads(answer)["id"]
    path = f"/v2/images/{image_id}/file"
    assert gateway.ask(path, data, method="PUT", kind="application/octet-stream")[0] == 204
    return image_id


# there and back


def test_what_is_pushed_is_pulled(shell: Shell) -> None:
    data = pattern(5 * MIB + 7)
    (shell.folder / "disk.img").write_bytes(data)
    image = shell.image(
        "push", "disk.img", "--name", "there and back", "--tag", "a", "--tag", "b",
        "--property", "os_distro=debian", "--min-disk", "3", "--min-ram", "64",
        "--visibility", "public",
    )  # fmt: skip
    assert UUID(image["id"])
    assert image["status"] == "active"
    assert image["size"] == len(data)
    assert image["os_hash_value"] == hashlib.sha512(data).hexdigest()
    assert (image["name"], image["disk_format"], image["visibility"]) == (
        "there and back",
        "raw",
        "public",
    )
    assert (image["os_distro"], sorted(image["tags"])) == ("debian", ["a", "b"])
    assert (image["min_disk"], image["min_ram"]) == (3, 64)
    pulled = shell("pull", "there and back", "-o", "again.img")
    assert (pulled.code, pulled.out, pulled.err) == (0, b"", "")
    assert (shell.folder / "again.img").read_bytes() == data


def test_a_pipe_in_and_a_pipe_out(shell: Shell) -> None:
    data = pattern(3 * MIB, seed=1)
    image = shell.image("push", "-", "--name", "piped", given=data)
    assert image["size"] == len(data)
    pulled = shell("pull", image["id"], "-o", "-")
    assert (pulled.code, pulled.err) == (0, "")
    assert pulled.out == data


@pytest.mark.parametrize("way", ["file", "pipe"])
def test_nothing_at_all_is_an_image_of_no_bytes(shell: Shell, way: str) -> None:
    (shell.folder / "empty").write_bytes(b"")
    image = shell.image("push", "empty" if way == "file" else "-")
    assert (image["status"], image["size"]) == ("active", 0)


def test_the_format_is_found_by_looking_and_the_name_is_the_files(shell: Shell) -> None:
    (shell.folder / "disk.qcow2").write_bytes(QCOW2)
    image = shell.image("push", "disk.qcow2")
    assert (image["name"], image["disk_format"]) == ("disk.qcow2", "qcow2")


# changing


def test_an_image_is_changed_and_deleted(shell: Shell, gateway: Serving) -> None:
    image_id = active(gateway, b"x", name="old", a="1")
    changed = shell.image(
        "set", image_id, "--name", "new", "--property", "b~/c=2", "--unset", "a", "--tag", "t",
        "--protected",
    )  # fmt: skip
    assert (changed["name"], changed["b~/c"], changed["tags"]) == ("new", "2", ["t"])
    assert "a" not in changed
    assert "protected" in shell.fails("delete", image_id)
    shell.image("set", image_id, "--unprotected")
    gone = shell("delete", image_id)
    assert (gone.code, gone.out, gone.err) == (0, b"", "")
    assert image_id in shell.fails("show", image_id)


def test_the_list_is_filtered_and_short_enough(shell: Shell, gateway: Serving) -> None:
    ids = [active(gateway, b"x", name="in the list", tags=["l"]) for _ in range(2)]
    found = shell("list", "--name", "in the list", "--status", "active", "--tag", "l", "--json")
    assert [image["id"] for image in json.loads(found.out)] == ids[::-1]
    one = shell("list", "--name", "in the list", "--limit", "1", "--json")
    assert len(json.loads(one.out)) == 1


def test_tables_are_for_people_and_cut_nothing_short(shell: Shell, gateway: Serving) -> None:
    name = "a long name" * 9
    image_id = active(gateway, b"x", name=name)
    listed = shell("list").out.decode()
    assert image_id in listed
    assert name in listed
    assert hashlib.sha512(b"x").hexdigest() in shell("show", image_id).out.decode()


# bytes that stay where they are


class Elsewhere(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "9")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(b"elsewhere")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def elsewhere() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/far.img"
        server.shutdown()


def test_bytes_elsewhere_are_registered_and_pulled(shell: Shell, elsewhere: str) -> None:
    image = shell.image("register", elsewhere, "--disk-format", "raw")
    assert (image["status"], image["size"], image["name"]) == ("active", 9, "far.img")
    pulled = shell("pull", "far.img", "-o", "-")
    assert (pulled.code, pulled.out) == (0, b"elsewhere")


def test_bytes_where_nobody_may_look_are_refused_before_any_look(shell: Shell) -> None:
    with socket.create_server(("127.0.0.2", 0)) as listener:
        port = listener.getsockname()[1]
        said = shell.fails("register", f"http://127.0.0.2:{port}/secret.img", "--size", "3")
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
            listener.accept()
    assert "400" in said
    assert "secret.img" not in said


# what goes wrong


def test_no_server(shell: Shell) -> None:
    shell.url = "http://127.0.0.1:1"
    said = shell.fails("list")
    assert "no server answers at http://127.0.0.1:1" in said


@pytest.mark.parametrize("url", ["nonsense", "ftp://127.0.0.1", "http://[::1"])
def test_a_url_that_is_none(shell: Shell, url: str) -> None:
    shell.url = url
    shell.fails("list")


def test_a_server_that_is_another(shell: Shell) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        shell.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def talk() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"
                    b"Content-Length: 6\r\nConnection: close\r\n\r\n<html>"
                )

        talking = threading.Thread(target=talk)
        talking.start()
        shell.fails("list")
        talking.join()


def test_a_file_that_is_not_there_or_is_a_folder(shell: Shell) -> None:
    assert "nowhere.img" in shell.fails("push", "nowhere.img")
    assert "cannot read" in shell.fails("push", ".")


def test_an_image_that_is_not_there(shell: Shell) -> None:
    assert "no image 'nobody'" in shell.fails("show", "nobody")
    assert "no image 'nobody'" in shell.fails("pull", "nobody")


def test_a_name_of_two(shell: Shell, gateway: Serving) -> None:
    for _ in range(2):
        active(gateway, b"x", name="twin")
    assert "more than one" in shell.fails("show", "twin")


def test_what_the_server_refuses_is_said_in_its_words(shell: Shell) -> None:
    assert "400" in shell.fails("push", "-", "--disk-format", "papyrus", given=b"x")


@pytest.mark.parametrize(
    "arguments",
    [["push"], ["push", "/dev/null", "--property", "novalue"], ["list", "--limit", "0"],
     ["nonsense"], ["push", "-", "--min-disk", "much"]],
)  # fmt: skip
def test_a_command_line_that_cannot_be_is_2(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["tidegate", "image", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "Error" in capfd.readouterr().err


# files that appear whole or not at all


def test_a_pull_that_cannot_be_written(shell: Shell, gateway: Serving) -> None:
    image_id = active(gateway, b"x")
    assert "cannot write nowhere/x" in shell.fails("pull", image_id, "-o", "nowhere/x")


def test_a_pull_of_an_image_without_data_leaves_no_file(shell: Shell, gateway: Serving) -> None:
    body = b'{"name": "queued", "disk_format": "raw", "container_format": "bare"}'
    _, answer = gateway.ask("/v2/images", body, kind="application/json")
    (shell.folder / "target").write_bytes(b"old")
    assert "no data" in shell.fails("pull", json.loads(answer)["id"], "-o", "target")
    assert os.listdir(shell.folder) == ["target"]
    assert (shell.folder / "target").read_bytes() == b"old"


def test_a_pull_by_a_name_with_slashes_stays_in_its_folder(shell: Shell, gateway: Serving) -> None:
    name = "../../outside"
    active(gateway, b"x", name=name)
    folder = shell.folder / "some" / "where"
    folder.mkdir(parents=True)
    inner = Shell(folder, shell.url)
    inner("pull", name)
    assert not (shell.folder / "outside").exists()


def test_a_pull_into_a_closed_pipe_ends_in_one_line(shell: Shell, gateway: Serving) -> None:
    image_id = active(gateway, pattern(8 * MIB))
    out, into = os.pipe()
    os.close(out)
    done = subprocess.run(
        [COMMAND, "image", "pull", image_id, "-o", "-", "--url", shell.url],
        stdout=into, stderr=subprocess.PIPE, env=environment(), check=False, timeout=60,
    )  # fmt: skip
    os.close(into)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 1


# progress


def in_a_terminal(folder: Path, *arguments: str) -> bytes:
    """What the command shows on a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [COMMAND, *arguments], cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=theirs, env=environment(TERM="xterm"),
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # the terminal ends with its last process
        while select.select([ours], [], [], 30)[0]:
            shown += os.read(ours, 65536)
    os.close(ours)
    assert process.wait(30) == 0
    return shown


def test_progress_is_shown_on_a_terminal_alone(shell: Shell) -> None:
    data = pattern(2 * MIB)
    (shell.folder / "disk.img").write_bytes(data)
    quiet = shell("push", "disk.img")
    assert (quiet.code, quiet.err) == (0, "")
    shown = in_a_terminal(shell.folder, "image", "push", "disk.img", "--url", shell.url)
    assert b"pushing" in shown
