"""The pictures of the statuses say what the tables say, everywhere where they stand."""

import json
import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest
from tests.kit.gateway import running
from typer.testing import CliRunner

from tidegate.cli import app
from tidegate.diagram import HEIGHT, Diagram, framed, mermaid, svg
from tidegate.domain.status import INITIAL, TRANSITIONS, Event, Status
from tidegate.domain.task import TASK_TRANSITIONS, TaskStatus
from tidegate.lifecycle import BIRTHS, image_diagram, task_diagram
from tidegate.stores.memory import MemoryStore

DOCS = Path(__file__).parent.parent / "docs"
SVG = "{http://www.w3.org/2000/svg}"
DIAGRAMS = pytest.mark.parametrize(
    "diagram", [image_diagram(), task_diagram()], ids=["image", "task"]
)


def arrows(text: str) -> set[tuple[str, str]]:
    return set(re.findall(r"^ +(\S+) --> (\w+):", text, re.MULTILINE))


def told(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["statuses", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


# against the tables


def test_every_edge_of_the_table_is_an_arrow_and_no_other() -> None:
    edges = {(str(s), str(row.target)) for row in TRANSITIONS.values() for s in row.sources}
    assert arrows(mermaid(image_diagram())) == edges | {("[*]", str(s)) for s in INITIAL}


def test_every_edge_of_a_task_is_an_arrow_and_no_other() -> None:
    edges = {(str(s), str(to)) for sources, to in TASK_TRANSITIONS.values() for s in sources}
    assert arrows(mermaid(task_diagram())) == edges | {("[*]", "pending")}


def test_every_arrow_says_what_pulls_it() -> None:
    text = mermaid(image_diagram())
    for row in TRANSITIONS.values():
        for source in row.sources:
            (label,) = re.findall(rf"{source} --> {row.target}: (.+)", text)
            assert row.trigger in label.split("; ")


def test_every_status_has_a_box_and_every_birth_a_word() -> None:
    assert {box.name for box in image_diagram().boxes} == set(Status)
    assert {box.name for box in task_diagram().boxes} == set(TaskStatus)
    assert set(BIRTHS) == INITIAL


def test_the_frame_stands_around_exactly_what_can_be_deleted() -> None:
    assert framed(image_diagram()) == TRANSITIONS[Event.DELETE].sources


@DIAGRAMS
def test_every_arrow_has_a_way_given_by_hand(diagram: Diagram) -> None:
    given = set(diagram.routes)
    drawn = {(edge.source, edge.target) for edge in diagram.edges}
    assert given <= drawn
    assert drawn - given <= {("pending", "processing")}  # a straight line between neighbours


# the picture


@DIAGRAMS
def test_no_box_lies_on_another_and_none_sticks_out(diagram: Diagram) -> None:
    for box in diagram.boxes:
        assert box.width / 2 <= box.x <= diagram.width - box.width / 2
        assert HEIGHT / 2 <= box.y <= diagram.height - HEIGHT / 2
    for one, two in combinations(diagram.boxes, 2):
        apart = abs(one.x - two.x) > (one.width + two.width) / 2
        assert apart or abs(one.y - two.y) > HEIGHT


@DIAGRAMS
def test_an_arrow_begins_and_ends_at_its_boxes(diagram: Diagram) -> None:
    boxes = {box.name: box for box in diagram.boxes}
    for (source, target), route in diagram.routes.items():
        for name, (x, y) in ((source, route.points[0]), (target, route.points[-1])):
            if name is None:
                continue
            box = boxes[name]
            across, down = abs(x - box.x) / (box.width / 2), abs(y - box.y) / (HEIGHT / 2)
            assert max(across, down) == pytest.approx(1), (source, target, name)


@DIAGRAMS
def test_the_svg_stands_alone_and_knows_dark(diagram: Diagram) -> None:
    text = svg(diagram)
    root = ElementTree.fromstring(text)
    assert {node.tag for node in root.iter()} <= {
        SVG + name
        for name in ("svg", "title", "style", "rect", "circle", "polyline", "path", "text")
    }
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"url\(|href|@import", text)
    names = {node.text for node in root.iter(f"{SVG}text") if node.get("class") == "name"}
    assert names == {box.name for box in diagram.boxes}


# where they stand


def test_the_documents_have_the_pictures_that_the_code_draws() -> None:
    assert (DOCS / "statuses.svg").read_text() == svg(image_diagram())
    blocks = re.findall(r"```mermaid\n(.*?)```", (DOCS / "statuses.md").read_text(), re.DOTALL)
    assert blocks == [mermaid(image_diagram()), mermaid(task_diagram())]


def test_the_documents_have_a_row_for_each_status() -> None:
    rows = re.findall(r"^\| (`.+?) \|", (DOCS / "statuses.md").read_text(), re.MULTILINE)
    assert re.findall(r"`(\w+)`", " ".join(rows)) == [str(status) for status in Status]


def test_the_command_prints_what_is_asked_for() -> None:
    assert told("--svg") == svg(image_diagram())
    assert told("--mermaid", "--tasks") == mermaid(task_diagram())
    life = json.loads(told("--json"))
    assert life["statuses"] == list(Status)
    assert {event["event"]: set(event["from"]) for event in life["events"]} == {
        event: row.sources for event, row in TRANSITIONS.items()
    }
    assert {event["to"] for event in json.loads(told("--json", "--tasks"))["events"]} == {
        "processing", "success", "failure",
    }  # fmt: skip


def test_without_a_wish_it_is_a_table_of_all_events() -> None:
    table = told()
    assert all(event in table for event in Event)
    assert "begins as queued or active" in table


def test_two_forms_at_once_are_wrong_use() -> None:
    assert CliRunner().invoke(app, ["statuses", "--svg", "--json"]).exit_code == 2


async def test_a_running_gateway_shows_its_own(tmp_path: Path) -> None:
    async with running(MemoryStore(), tmp_path) as gate:
        answer = await gate.ask("GET", "/statuses.svg")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/svg+xml; charset=utf-8")
    assert answer.body.decode() == svg(image_diagram())
