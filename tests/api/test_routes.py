"""Every route has its row in docs/api-compatibility.md: the same as in Glance, or not and why."""

import re
from pathlib import Path
from typing import NamedTuple

from tests.kit.routes import routed

DOC = Path(__file__).parents[2] / "docs" / "api-compatibility.md"
HEAD = "## Every call"


class Row(NamedTuple):
    calls: list[tuple[str, str]]
    verdict: str
    why: str


def rows() -> list[Row]:
    section = DOC.read_text(encoding="utf-8").partition(f"{HEAD}\n")[2].partition("\n## ")[0]
    found = []
    for line in section.splitlines():
        if line.startswith("| `"):
            calls, verdict, why = (cell.strip() for cell in line.strip("|").split("|"))
            found.append(Row(re.findall(r"`([A-Z]+) (/[^`]*)`", calls), verdict, why))
    return found


def test_every_route_has_one_row_and_every_row_its_routes() -> None:
    told = [call for row in rows() for call in row.calls]
    assert len(told) == len(set(told))
    assert set(told) == routed()


def test_a_row_says_same_or_differs_or_that_the_call_is_ours() -> None:
    assert {row.verdict for row in rows()} <= {"same", "differs", "ours"}


def test_what_differs_says_why_and_what_is_the_same_does_not() -> None:
    for row in rows():
        assert bool(row.why) == (row.verdict != "same"), row
