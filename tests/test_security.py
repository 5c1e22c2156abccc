"""``docs/security.md`` names every rule and its tests; and what the code itself must not hold."""

import ast
import re
import tomllib
from importlib.metadata import version
from pathlib import Path

from tests.test_architecture import modules

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "security.md"

# the page


def rows() -> dict[str, str]:
    """Of the page's tables: the rules of each row, and the row."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if re.match(r"(SEC-|S)\d", cells[0]):
            for rule in cells[0].split(", "):
                assert rule not in found, f"{rule} is there twice"
                found[rule] = line
    return found


def defined_in(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_rule_has_a_row() -> None:
    known = [*range(1, 3), *range(10, 29), *range(30, 50), *range(50, 69), *range(70, 75),
             *range(80, 87)]  # fmt: skip
    rules = {f"SEC-{number:02}" for number in known} | {f"S{number}" for number in range(1, 53)}
    assert set(rows()) == rules


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE.read_text())
    assert len(named) > 100
    missing = [f"{path}::{name}" for path, name in named if name not in defined_in(ROOT / path)]
    assert missing == []


def test_every_row_names_a_test_or_a_reason() -> None:
    bare = [
        rule
        for rule, line in rows().items()
        if "`tests/" not in line and not re.search(r"\| (no test|not built|not ours): \w", line)
    ]
    assert bare == []


# what the code is made of


def test_sec_83_nothing_is_read_that_could_run_and_nothing_sent_unchecked() -> None:
    found = []
    for _, name, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", "") or ""]
                found += [
                    f"{name}: {one}" for one in names if one in {"pickle", "marshal", "shelve"}
                ]
            if isinstance(node, ast.Call):
                found += [
                    f"{name}: {ast.unparse(node)}"
                    for keyword in node.keywords
                    if keyword.arg in {"verify", "ssl", "verify_ssl"}
                    and isinstance(keyword.value, ast.Constant)
                    and keyword.value.value is False
                ]
                if ast.unparse(node.func) in {"yaml.load", "yaml.unsafe_load"}:
                    found.append(f"{name}: {ast.unparse(node)}")
    assert found == []


def test_sec_84_what_must_not_be_guessed_is_made_by_nothing_that_can_be() -> None:
    users = {
        name
        for _, name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Import) and any(alias.name == "random" for alias in node.names)
    }
    # when a job looks again, how long it waits, what a benchmark sends
    assert users == {"bench/payload.py", "jobs/runner.py", "jobs/worker.py", "killpoints.py",
                     "services/removals.py"}  # fmt: skip


def test_sec_81_s52_aiohttp_is_not_one_with_a_known_hole() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert "aiohttp>=3.14.1" in declared
    assert tuple(map(int, version("aiohttp").split(".")[:3])) >= (3, 14, 1)
    assert len(declared) <= 25  # SEC-80
