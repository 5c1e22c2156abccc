"""Boxes and arrows, as SVG and as Mermaid: the drawing alone, which knows nothing of images.

Places are given by hand, in pixels, so that a drawing looks the same each time; an edge without
a route is a straight arrow, so that one that is new in a table is drawn all the same.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

HEIGHT = 44
"""Of a box."""

_LINE = 15
"""Between two lines of a label."""

_STYLE = """
    .ground { fill: #ffffff }
    .frame { fill: none; stroke: #8a94a3; stroke-dasharray: 6 5 }
    .box { stroke-width: 1.5 }
    .plain { fill: #e8f0fb; stroke: #3f6fb5 }
    .good { fill: #e2f5e6; stroke: #2c8a48 }
    .held { fill: #fdf1d6; stroke: #b0801c }
    .bad { fill: #fbe3e1; stroke: #c0392b }
    .gone { fill: #ececee; stroke: #7b828c }
    .edge { fill: none; stroke: #4a5360; stroke-width: 1.4 }
    .head, .dot { fill: #4a5360 }
    text { font: 12px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #3a424e }
    .name { font-size: 14px; font-weight: 600; fill: #12161c; text-anchor: middle }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #14181d }
      .frame { stroke: #69727f }
      .plain { fill: #1d2c42; stroke: #6d9be0 }
      .good { fill: #173523; stroke: #57b877 }
      .held { fill: #3a2f14; stroke: #d6a541 }
      .bad { fill: #40201d; stroke: #e8756a }
      .gone { fill: #2a2e34; stroke: #9aa1ab }
      .edge { stroke: #aab3bf }
      .head, .dot { fill: #aab3bf }
      text { fill: #c6cdd6 }
      .name { fill: #f2f4f7 }
    }
"""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """``x`` and ``y`` are its middle; ``kind`` is one of plain, good, held, bad, gone."""

    name: str
    x: float
    y: float
    width: float = 130
    kind: str = "plain"


@dataclass(frozen=True, slots=True)
class Edge:
    """An arrow between two boxes, by name; ``source`` None: from nowhere, a beginning."""

    source: str | None
    target: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Route:
    """``points`` are the arrow's corners, its ends too. The label is broken into lines of at most
    ``width`` letters, the first one at ``at``; ``anchor``: start, middle or end of the line."""

    points: tuple[Point, ...]
    at: Point
    anchor: str = "middle"
    width: int = 60


@dataclass(frozen=True, slots=True)
class Frame:
    """Drawn around boxes that share an edge: one arrow to ``target`` leaves it for all of them,
    which ``remark`` says."""

    left: float
    top: float
    right: float
    bottom: float
    target: str
    label: str
    remark: str
    route: Route


@dataclass(frozen=True, slots=True)
class Diagram:
    title: str
    width: int
    height: int
    boxes: Sequence[Box]
    edges: Sequence[Edge]
    routes: dict[tuple[str | None, str], Route]
    frame: Frame | None = None


def svg(diagram: Diagram) -> str:
    """A document of its own: no script, no font and no style from elsewhere; for light and dark."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {diagram.width} {diagram.height}" '
        f'width="{diagram.width}" height="{diagram.height}" role="img" '
        f'aria-labelledby="title">',
        f'  <title id="title">{escape(diagram.title)}</title>',
        f"  <style>{_STYLE}  </style>",
        f'  <rect class="ground" width="{diagram.width}" height="{diagram.height}"/>',
    ]
    labels: list[str] = []
    if diagram.frame is not None:
        frame = diagram.frame
        lines.append(
            f'  <rect class="frame" x="{frame.left}" y="{frame.top}" rx="14" '
            f'width="{frame.right - frame.left}" height="{frame.bottom - frame.top}"/>'
        )
        lines += _arrow(frame.route)
        labels += _label(f"{frame.label}{frame.remark}", frame.route)
    places = {box.name: box for box in diagram.boxes}
    for edge in diagram.edges:
        route = diagram.routes.get((edge.source, edge.target)) or _straight(edge, places)
        if edge.source is None:
            x, y = route.points[0]
            lines.append(f'  <circle class="dot" cx="{x:g}" cy="{y:g}" r="7"/>')
        lines += _arrow(route)
        labels += _label(edge.label, route)
    for box in diagram.boxes:
        lines.append(
            f'  <rect class="box {box.kind}" x="{box.x - box.width / 2:g}" '
            f'y="{box.y - HEIGHT / 2:g}" width="{box.width:g}" height="{HEIGHT}" rx="9"/>'
        )
        lines.append(
            f'  <text class="name" x="{box.x:g}" y="{box.y + 5:g}">{escape(box.name)}</text>'
        )
    return "\n".join([*lines, *labels, "</svg>", ""])


def mermaid(diagram: Diagram) -> str:
    """The same boxes and arrows; the places are Mermaid's. What a frame stands for is drawn one
    by one."""
    edges = list(diagram.edges)
    if diagram.frame is not None:
        frame = diagram.frame
        inside = framed(diagram)
        edges += [
            Edge(box.name, frame.target, frame.label) for box in diagram.boxes if box.name in inside
        ]
    return "\n".join(
        [
            "stateDiagram-v2",
            *(f"    {edge.source or '[*]'} --> {edge.target}: {edge.label}" for edge in edges),
            "",
        ]
    )


def framed(diagram: Diagram) -> set[str]:
    """The names of the boxes that lie within the frame."""
    frame = diagram.frame
    if frame is None:
        return set()
    return {
        box.name
        for box in diagram.boxes
        if frame.left < box.x < frame.right and frame.top < box.y < frame.bottom
    }


def _straight(edge: Edge, places: dict[str, Box]) -> Route:
    to = places[edge.target]
    of = places[edge.source] if edge.source is not None else Box("", to.x - to.width, to.y, 0)
    start, end = _border(of, to), _border(to, of)
    return Route((start, end), ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2 - 6))


def _border(box: Box, other: Box) -> Point:
    """Where the line from the middle of a box to that of another one leaves it."""
    x, y = other.x - box.x, other.y - box.y
    wide = abs(x) / (box.width / 2) if box.width else 0.0
    scale = max(wide, abs(y) / (HEIGHT / 2)) or 1.0
    return box.x + x / scale, box.y + y / scale


def _arrow(route: Route) -> list[str]:
    (x1, y1), (x2, y2) = route.points[-2:]
    turn = math.degrees(math.atan2(y2 - y1, x2 - x1))
    path = " ".join(f"{x:g},{y:g}" for x, y in route.points)
    return [
        f'  <polyline class="edge" points="{path}"/>',
        f'  <path class="head" d="M0,0 L-10,-4.5 L-10,4.5 Z" '
        f'transform="translate({x2:g} {y2:g}) rotate({turn:g})"/>',
    ]


def _label(text: str, route: Route) -> list[str]:
    x, y = route.at
    return [
        f'  <text x="{x:g}" y="{y + number * _LINE:g}" '
        f'text-anchor="{route.anchor}">{escape(line)}</text>'
        for number, line in enumerate(_wrapped(text, route.width))
    ]


def _wrapped(text: str, width: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
