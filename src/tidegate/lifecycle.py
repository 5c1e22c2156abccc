"""The lives of an image and of a task as pictures, drawn from their tables; here are only the
places. What the tables say and no place is given for is drawn as well, less neatly."""

from collections.abc import Mapping

from tidegate.diagram import Box, Diagram, Edge, Frame, Point, Route
from tidegate.domain.status import INITIAL, TRANSITIONS, Event, Status
from tidegate.domain.task import TASK_TRANSITIONS, TaskStatus

BIRTHS: Mapping[Status, str] = {
    Status.QUEUED: "created",
    Status.ACTIVE: "created with a location, or with size 0",
}

_UP, _MIDDLE, _DOWN, _OUTSIDE = 130, 350, 520, 680

_PLACES: Mapping[Status, Box] = {
    Status.QUEUED: Box("queued", 220, _MIDDLE, 170),
    Status.SAVING: Box("saving", 600, _MIDDLE),
    Status.UPLOADING: Box("uploading", 410, _UP),
    Status.IMPORTING: Box("importing", 800, _UP),
    Status.ACTIVE: Box("active", 1000, _MIDDLE, 150, "good"),
    Status.DEACTIVATED: Box("deactivated", 1000, _DOWN, 150, "held"),
    Status.KILLED: Box("killed", 600, _DOWN, 130, "bad"),
    Status.PENDING_DELETE: Box("pending_delete", 1000, _OUTSIDE, 150, "gone"),
    Status.DELETED: Box("deleted", 600, _OUTSIDE, 130, "gone"),
}

_TOP, _BOTTOM = _MIDDLE - 22, _MIDDLE + 22
"""Of the boxes in the middle."""


def _over(start: float, height: float, end: float) -> tuple[Point, ...]:
    """Up from one box in the middle, across, and down to another."""
    return (start, _TOP), (start, height), (end, height), (end, _TOP)


_ROUTES: dict[tuple[str | None, str], Route] = {
    (None, "queued"): Route(((30, 350), (135, 350)), (34, 336), "start"),
    (None, "active"): Route(((1225, 340), (1075, 340)), (1120, 300), "start", 16),
    ("queued", "saving"): Route(((305, 340), (535, 340)), (420, 332)),
    ("saving", "queued"): Route(((535, 360), (305, 360)), (420, 378), "middle", 32),
    ("saving", "active"): Route(((665, 350), (925, 350)), (795, 342)),
    ("saving", "killed"): Route(((600, _BOTTOM), (600, 498)), (608, 440), "start"),
    ("queued", "killed"): Route(((220, _BOTTOM), (220, 520), (535, 520)), (378, 497), "middle", 34),
    ("queued", "importing"): Route(
        ((150, _TOP), (150, 70), (800, 70), (800, 108)), (475, 62), "middle"
    ),
    ("queued", "uploading"): Route(((178, _TOP), (178, 120), (345, 120)), (262, 112)),
    ("uploading", "queued"): Route(((345, 140), (200, 140), (200, _TOP)), (272, 157)),
    ("uploading", "importing"): Route(((475, 130), (735, 130)), (605, 122)),
    ("importing", "queued"): Route(
        ((800, 152), (800, 200), (224, 200), (224, _TOP)), (605, 192), "middle"
    ),
    ("importing", "active"): Route(((865, 130), (1040, 130), (1040, _TOP)), (953, 122)),
    ("queued", "active"): Route(_over(252, 240, 1000), (605, 232)),
    ("active", "queued"): Route(_over(960, 280, 280), (605, 272)),
    ("active", "deactivated"): Route(((985, _BOTTOM), (985, 498)), (977, 440), "end"),
    ("deactivated", "active"): Route(((1015, 498), (1015, _BOTTOM)), (1023, 440), "start"),
    ("deactivated", "pending_delete"): Route(
        ((1000, 542), (1000, 658)), (992, 616), "end"
    ),
    ("active", "pending_delete"): Route(
        ((1075, 360), (1160, 360), (1160, 680), (1075, 680)), (1168, 616), "start", 16
    ),
    ("pending_delete", "deleted"): Route(((925, 680), (665, 680)), (795, 672)),
}  # fmt: skip

_FRAME = Event.DELETE
_OUT = Route(((600, 580), (600, 658)), (608, 616), "start")

_TASK_PLACES: Mapping[TaskStatus, Box] = {
    TaskStatus.PENDING: Box("pending", 170, 90),
    TaskStatus.PROCESSING: Box("processing", 400, 90),
    TaskStatus.SUCCESS: Box("success", 640, 50, 130, "good"),
    TaskStatus.FAILURE: Box("failure", 640, 130, 130, "bad"),
}

_TASK_ROUTES: dict[tuple[str | None, str], Route] = {
    (None, "pending"): Route(((30, 90), (105, 90)), (62, 78)),
    ("processing", "success"): Route(((465, 80), (540, 80), (540, 50), (575, 50)), (502, 74)),
    ("processing", "failure"): Route(((465, 100), (540, 100), (540, 130), (575, 130)), (502, 116)),
}


def image_diagram() -> Diagram:
    shared = TRANSITIONS[_FRAME]
    frame = Frame(95, 40, 1100, 580, shared.target, shared.trigger, ", of any of these", _OUT)
    triggers: dict[tuple[Status, Status], list[str]] = {}
    for event, row in TRANSITIONS.items():
        if event is not _FRAME:
            for source in sorted(row.sources):
                triggers.setdefault((source, row.target), []).append(row.trigger)
    edges = [Edge(None, status, BIRTHS[status]) for status in Status if status in INITIAL]
    edges += [Edge(source, target, "; ".join(said)) for (source, target), said in triggers.items()]
    return Diagram("The life of an image", 1290, 730, list(_PLACES.values()), edges, _ROUTES, frame)


def task_diagram() -> Diagram:
    edges = [Edge(None, TaskStatus.PENDING, "created")]
    for event, (sources, target) in TASK_TRANSITIONS.items():
        edges += [Edge(source, target, event) for source in sorted(sources)]
    return Diagram("The life of a task", 740, 180, list(_TASK_PLACES.values()), edges, _TASK_ROUTES)
