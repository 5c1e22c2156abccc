"""Which calls of the clients the tests of this folder drive, as docs/api-compatibility.md says."""

import ast
import re
from collections.abc import Iterator
from importlib.metadata import entry_points, version
from pathlib import Path

import pytest
from glanceclient.v2 import shell
from openstack.image.v2._proxy import Proxy

HERE = Path(__file__).parent
DOC = HERE.parents[2] / "docs" / "api-compatibility.md"

OPENSTACK = {point.name.replace("_", " ") for point in entry_points(group="openstack.image.v2")}
GLANCE = {
    name.removeprefix("do_").replace("_", "-") for name in vars(shell) if name.startswith("do_")
}
SDK = {name for name, found in vars(Proxy).items() if callable(found) and not name.startswith("_")}


def calls() -> Iterator[ast.Call]:
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                yield node


def words(call: ast.Call) -> list[str]:
    """The plain text with which its arguments begin."""
    found = []
    for argument in call.args:
        if not (isinstance(argument, ast.Constant) and isinstance(argument.value, str)):
            break
        found.append(argument.value)
    return found


def driven() -> dict[str, tuple[set[str], set[str]]]:
    """By client: what it has, and what of it is driven."""
    openstack, glance, sdk = set(), set(), set()
    for call in calls():
        said = words(call)
        commands = (" ".join(said[:length]) for length in range(len(said), 0, -1))
        openstack.update([command for command in commands if command in OPENSTACK][:1])
        glance.update(GLANCE.intersection(said[:1]))
        if isinstance(call.func, ast.Attribute) and call.func.attr in SDK:
            sdk.add(call.func.attr)
    return {
        "`openstack image …` and `openstack cached image …`": (OPENSTACK, openstack),
        "`glance …`": (GLANCE, glance),
        "the image service of openstacksdk": (SDK, sdk),
    }


def documented() -> Iterator[tuple[str, list[str]]]:
    """A client, and the other cells of its row: the package and its version, and the counts."""
    text = DOC.read_text(encoding="utf-8")
    for client in driven():
        row = re.search(rf"^\| {re.escape(client)} \|(.*)\|$", text, re.MULTILINE)
        assert row is not None, client
        yield client, [cell.strip() for cell in row[1].split("|")]


def test_the_documented_counts_are_so() -> None:
    rows = dict(documented())
    for package, known in (of.split() for of, *_ in rows.values()):
        if version(package) != known:
            pytest.skip(f"{package} is of another version")
    for client, (there, seen) in driven().items():
        left = ", ".join(f"`{name}`" for name in sorted(there - seen))
        assert rows[client][1:] == [f"{len(seen)} of {len(there)}", left or "–"]
