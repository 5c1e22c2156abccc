"""The commands of docs/api-v1.md do what the page says they do."""

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.kit.server import Server, configure

PAGE = Path(__file__).parents[2] / "docs" / "api-v1.md"
SHOWN = "http://127.0.0.1:9292"


@dataclass(frozen=True)
class Step:
    """One command of a page and what the page says comes of it; ``…`` is anything."""

    command: str
    says: str


def steps(page: str) -> Iterator[Step]:
    for block in re.findall(r"^```console\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        for text in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, says = re.split(r"(?<!\\)(\n)", text, maxsplit=1)
            yield Step(command, says.strip())


def agrees(says: str, came: str) -> bool:
    """Blanks do not count; of the headers, those are compared that the page shows."""
    head, _, body = says.partition("\n\n") if says.startswith("HTTP/") else ("", "", says)
    came_head, _, came_body = came.partition("\n\n") if came.startswith("HTTP/") else ("", "", came)
    lines = came_head.splitlines()
    return all(
        any(_alike(line, found) for found in lines) for line in head.splitlines()
    ) and _alike(body, came_body)


def _alike(says: str, came: str) -> bool:
    pieces = ("".join(piece.split()) for piece in says.split("…"))
    pattern = ".*".join(map(re.escape, pieces))
    return re.fullmatch(pattern, "".join(came.split()), re.IGNORECASE) is not None


def run(step: Step, server: Server) -> str:
    command = step.command.replace("$U", server.url)
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, timeout=30, cwd=server.folder, check=True
    )
    return done.stdout.decode().replace("\r\n", "\n").replace(server.url, SHOWN).strip()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    store = {"type": "filesystem", "id": "local", "path": str(tmp_path / "images")}
    config = configure(tmp_path, [store])
    with Server(tmp_path, "--config", str(config)) as running:
        yield running


def test_every_command_of_the_page_does_what_it_says(server: Server) -> None:
    found = list(steps(PAGE.read_text(encoding="utf-8")))
    assert len(found) > 20
    for step in found:
        came = run(step, server)
        assert agrees(step.says, came), f"{step.command}\n{came}"


@pytest.mark.parametrize(
    ("says", "came", "alike"),
    [
        ("HTTP/1.1 200 OK\nETag: x\n\n{}", "HTTP/1.1 200 OK\nA: b\nETag: x\n\n{}", True),
        ("HTTP/1.1 200 OK\nETag: y\n\n{}", "HTTP/1.1 200 OK\nETag: x\n\n{}", False),
        ("HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found", False),
        ("HTTP/1.1 200 OK", "HTTP/1.1 200 OK\n\n{}", False),
        ('{"a": 1,\n  "b": …}', '{"a":1,"b":[2]}', True),
        ('{"a": 1}', '{"a":1,"b":[2]}', False),
        ("", "hello", False),
    ],
)
def test_a_page_that_says_something_else_is_found_out(says: str, came: str, alike: bool) -> None:
    assert agrees(says, came) is alike
