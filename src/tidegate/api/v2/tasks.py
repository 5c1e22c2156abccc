"""Image API v2: tasks, for administrators, and those of an image, for whoever may see it."""

from typing import Any

from aiohttp import web

from tidegate.api.errors import render
from tidegate.api.formats import check_formats
from tidegate.api.keys import CALLER, CLONING, EXPORTING, IMPORTS, REQUEST_ID, TASKS
from tidegate.api.links import base_url
from tidegate.api.reading import check_query, read_json, refuse_body
from tidegate.api.v2 import images, listing
from tidegate.api.v2.task_schemas import check_task
from tidegate.api.v2.views import precise_time, respond, time_of
from tidegate.catalog.base import TaskQuery, Viewer
from tidegate.domain.errors import Invalid
from tidegate.domain.export import target_of
from tidegate.domain.image import UUID
from tidegate.domain.task import Task, TaskStatus, TaskType

_SORT_KEYS = frozenset({
    "id", "type", "status", "owner", "created_at", "updated_at", "expires_at", "image_id",
    "request_id", "user_id",
})  # fmt: skip
_FILTERS = _SORT_KEYS | {"message"}
_MADE = frozenset({TaskType.IMPORT, TaskType.CLONE, TaskType.EXPORT})
"""The types of tasks that are made, and looked for, by these calls."""

_OF_AN_IMAGE = frozenset({TaskType.CLONE, TaskType.EXPORT})

_NOT_DELETED = (
    "This operation is currently not permitted on Glance Tasks. They are auto deleted after "
    "reaching the time based on their expires_at property."
)


async def create_task(request: web.Request) -> web.Response:
    caller = request[CALLER]
    request.app[TASKS].require_access(caller)
    kind, given = _new_task(await read_json(request))
    check_formats(request, given.get("image_properties") or {})
    match kind:
        case TaskType.CLONE:
            add = request.app[CLONING].add_clone
        case TaskType.EXPORT:
            add = request.app[EXPORTING].add_export
        case _:
            add = request.app[IMPORTS].add_import
    task = await add(caller, given, request_id=request[REQUEST_ID])
    location = f"{base_url(request)}/v2/tasks/{task.id}"
    return respond(_view(task), status=201, headers={"Location": location})


async def list_tasks(request: web.Request) -> web.Response:
    tasks = request.app[TASKS]
    tasks.require_access(request[CALLER])
    check_query(request)
    query = _query({name: request.query.getall(name)[-1] for name in request.query})
    found = await tasks.page(request[CALLER], query)
    page: dict[str, Any] = {
        "tasks": [_stub(task) for task in found],
        "first": listing.link("/v2/tasks", request.query, None),
        "schema": "/v2/schemas/tasks",
    }
    if found and len(found) == query.limit:
        page["next"] = listing.link("/v2/tasks", request.query, found[-1].id)
    return respond(page)


async def show_task(request: web.Request) -> web.Response:
    request.app[TASKS].require_access(request[CALLER])
    refuse_body(request)
    task = await request.app[TASKS].show(request[CALLER], request.match_info["task_id"])
    return respond(_view(task))


async def delete_task(request: web.Request) -> web.Response:
    request.app[TASKS].require_access(request[CALLER])
    return render(request, 405, _NOT_DELETED, {"Allow": "GET"})


async def list_image_tasks(request: web.Request) -> web.Response:
    refuse_body(request)
    found = await request.app[TASKS].of_image(request[CALLER], request.match_info["image_id"])
    return respond({"tasks": [_row(task) for task in found]})


def _new_task(body: Any) -> tuple[TaskType, dict[str, Any]]:
    """The type and the input of a new task. Invalid, Forbidden: also what its image may not be."""
    if not isinstance(body, dict):
        raise Invalid("Provided object does not match schema 'task': it must be an object")
    for name in ("type", "input"):
        if name not in body:
            raise Invalid(f"Task '{name}' is required")
    check_task(body)
    if body["type"] not in _MADE:
        raise Invalid(f"A task of type {body['type']} cannot be made by this call.")
    kind, given = TaskType(body["type"]), body["input"] or {}
    if kind in _OF_AN_IMAGE and not _is_id(given.get("image_id")):
        raise Invalid(f"Input does not contain 'image_id' field, the id of the image to {kind}.")
    if kind is TaskType.EXPORT:
        target_of(given)
    properties = given.get("image_properties")
    if properties is not None:
        if isinstance(properties, dict) and "id" in properties:
            raise Invalid("image_properties: the image's id is chosen by the server.")
        images.new_image(properties)
    return kind, given


def _is_id(value: object) -> bool:
    return isinstance(value, str) and UUID.fullmatch(value) is not None


def _query(given: dict[str, str]) -> TaskQuery:
    """For the eyes of nobody yet: the viewer is set by the service. Invalid."""
    limit = listing.limit(given.get("limit"))
    marker = given.get("marker")
    if marker is not None and not UUID.fullmatch(marker):
        raise Invalid("Invalid marker format")
    direction = given.get("sort_dir", "desc")
    if direction not in ("asc", "desc"):
        raise Invalid(f"Invalid sort direction: {direction}")
    sort = given.get("sort_key", "created_at")
    if sort not in _SORT_KEYS:
        raise Invalid("Sort key supplied was not valid.")
    if given.get("status", TaskStatus.PENDING) not in set(TaskStatus):
        raise Invalid(f"Invalid status value: {given['status']}")
    if given.get("type", TaskType.IMPORT) not in _MADE:
        raise Invalid(f"Invalid type value: {given['type']}")
    return TaskQuery(
        viewer=Viewer(),
        equal={name: value for name, value in given.items() if name in _FILTERS},
        sort=sort,
        descending=direction == "desc",
        limit=limit,
        marker=marker,
    )


def _stub(task: Task) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": task.id,
        "type": task.type,
        "status": task.status,
        "owner": task.owner,
        "created_at": time_of(task.created_at),
        "updated_at": time_of(task.updated_at),
        "self": f"/v2/tasks/{task.id}",
        "schema": "/v2/schemas/task",
    }
    if task.expires_at is not None:
        view["expires_at"] = time_of(task.expires_at)
    return view


def _view(task: Task) -> dict[str, Any]:
    view = _stub(task) | {"input": task.input, "result": task.result, "message": task.message}
    for name in ("image_id", "request_id", "user_id"):
        if getattr(task, name):
            view[name] = getattr(task, name)
    return view


def _row(task: Task) -> dict[str, Any]:
    """As the tasks of an image are shown: nulls and all, times without a zone."""
    return {
        "id": task.id,
        "type": task.type,
        "status": task.status,
        "owner": task.owner,
        "expires_at": None if task.expires_at is None else precise_time(task.expires_at),
        "created_at": precise_time(task.created_at),
        "updated_at": precise_time(task.updated_at),
        "deleted_at": None,
        "deleted": False,
        "image_id": task.image_id,
        "request_id": task.request_id,
        "user_id": task.user_id,
        "input": task.input,
        "result": task.result,
        "message": task.message,
    }
