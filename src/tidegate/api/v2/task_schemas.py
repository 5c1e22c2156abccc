"""The JSON schemas of tasks, and the check of a new one."""

from typing import Any

from tidegate.api.v2.matching import Matcher
from tidegate.domain.task import TaskStatus, TaskType

_UUID = "^([0-9a-fA-F]){8}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){4}-([0-9a-fA-F]){12}$"


def _text(description: str, **more: Any) -> dict[str, Any]:
    return {"type": "string", "description": description, **more}


_SHOWN_IN_LISTS: dict[str, dict[str, Any]] = {
    "id": _text("The task's identifier", pattern=_UUID),
    "type": _text("What is done", enum=[kind.value for kind in TaskType]),
    "status": _text("How far it is", enum=[status.value for status in TaskStatus]),
    "owner": {"type": ["null", "string"], "description": "The project it is done for"},
    "image_id": {"type": ["null", "string"], "description": "The image it is about"},
    "request_id": {"type": ["null", "string"], "description": "The request that asked for it"},
    "user_id": {"type": ["null", "string"], "description": "The user who asked for it"},
    "expires_at": {"type": ["null", "string"], "description": "When the ended task is forgotten"},
    "created_at": _text("When it was asked for"),
    "updated_at": _text("When it last came forward"),
    "self": _text("The task's own path", readOnly=True),
    "schema": _text("The path of this schema", readOnly=True),
}
_PROPERTIES: dict[str, dict[str, Any]] = {
    **_SHOWN_IN_LISTS,
    "input": {"type": ["null", "object"], "description": "What it was asked to do"},
    "result": {"type": ["null", "object"], "description": "What came of it"},
    "message": _text("How far it is, or why it failed"),
}

TASK: dict[str, Any] = {"name": "task", "properties": _PROPERTIES}

TASKS: dict[str, Any] = {
    "name": "tasks",
    "properties": {
        "tasks": {
            "type": "array",
            "items": {"name": "task", "properties": _SHOWN_IN_LISTS},
        },
        "schema": {"type": "string"},
    },
    "links": [{"rel": "describedby", "href": "{schema}"}],
}

check_task = Matcher({**TASK, "additionalProperties": False}).check
