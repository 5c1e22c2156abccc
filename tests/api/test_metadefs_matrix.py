"""Metadata definitions: what each call answers in each case, as one table.

The namespace is private to the project of the reader; each call is an administrator's but for the
last two columns. ``other body``: none that the call takes.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.kit.gateway import Answer, running
from tests.kit.stores import FaultyStore
from tests.kit.tokens import Callers, everybody

MATRIX = """
call             | fine | other body | no namespace | no such | taken | protected | reader | stranger
list all         | 200  | 200        |              |         |       | 200       | 200    | 200
create           | 201  | 400        |              |         | 409   |           | 403    | 403
show             | 200  | 400        | 404          |         |       | 200       | 200    | 404
change           | 200  | 400        | 404          |         | 409   | 200       | 403    | 404
delete           | 204  | 400        | 404          |         |       | 403       | 403    | 404
list objects     | 200  | 200        | 404          |         |       | 200       | 200    | 404
add object       | 201  | 400        | 404          |         | 409   | 201       | 403    | 404
clear objects    | 204  | 400        | 404          |         |       | 403       | 403    | 404
show object      | 200  | 400        | 404          | 404     |       | 200       | 200    | 404
change object    | 200  | 400        | 404          | 404     | 409   | 200       | 403    | 404
delete object    | 204  | 400        | 404          | 404     |       | 403       | 403    | 404
list properties  | 200  | 400        | 404          |         |       | 200       | 200    | 404
add property     | 201  | 400        | 404          |         | 409   | 201       | 403    | 404
clear properties | 204  | 400        | 404          |         |       | 403       | 403    | 404
show property    | 200  | 200        | 404          | 404     |       | 200       | 200    | 404
change property  | 200  | 400        | 404          | 404     | 409   | 200       | 403    | 404
delete property  | 204  | 400        | 404          | 404     |       | 403       | 403    | 404
list tags        | 200  | 200        | 404          |         |       | 200       | 200    | 404
add tags         | 201  | 400        | 404          |         | 409   | 201       | 403    | 404
clear tags       | 204  | 400        | 404          |         |       | 403       | 403    | 404
show tag         | 200  | 400        | 404          | 404     |       | 200       | 200    | 404
add tag          | 201  | 400        | 404          |         | 409   | 201       | 403    | 404
change tag       | 200  | 400        | 404          | 404     | 409   | 200       | 403    | 404
delete tag       | 204  | 400        | 404          | 404     |       | 403       | 403    | 404
list types       | 200  | 400        | 404          |         |       | 200       | 200    | 404
add type         | 201  | 400        | 404          |         | 409   | 201       | 403    | 404
delete type      | 204  | 400        | 404          | 404     |       | 403       | 403    | 404
all types        | 200  | 400        |              |         |       |           | 200    | 200
a schema         | 200  | 400        |              |         |       |           | 200    | 200
"""  # noqa: E501
HEAD, *ROWS = [[cell.strip() for cell in line.split("|")] for line in MATRIX.split("\n") if line]

ALL = "/v2/metadefs/namespaces"
PROPERTY = {"title": "P", "type": "string"}
NAMED = {
    "object": {"name": "{name}"},
    "property": {"name": "{name}", **PROPERTY},
    "tag": {"name": "{name}"},
    "type": {"name": "{name}"},
}
PATHS = {"object": "objects", "property": "properties", "tag": "tags", "type": "resource_types"}
ONE = {plural: one for one, plural in PATHS.items()} | {"types": "type"}


def call_of(call: str, case: str, space: str) -> tuple[str, str, dict[str, Any] | None]:
    """Method, path and body. Each kind has an ``a`` and a ``b``; a new one is a ``c``."""
    if case == "no namespace":
        space = "nowhere"
    match call.split():
        case ["list", "all"]:
            return "GET", ALL, None
        case ["create"]:
            return "POST", ALL, {"namespace": space if case == "taken" else f"{space} new"}
        case ["show"]:
            return "GET", f"{ALL}/{space}", None
        case ["change"]:
            return "PUT", f"{ALL}/{space}", {"namespace": "other" if case == "taken" else space}
        case ["delete"]:
            return "DELETE", f"{ALL}/{space}", None
        case ["all", "types"]:
            return "GET", "/v2/metadefs/resource_types", None
        case ["a", "schema"]:
            return "GET", "/v2/schemas/metadefs/namespace", None
        case ["list" | "clear" as verb, plural]:
            path = f"{ALL}/{space}/{PATHS[ONE[plural]]}"
            return {"list": "GET", "clear": "DELETE"}[verb], path, None
        case ["add", "tags"]:
            names = ["c", "c"] if case == "taken" else ["c", "d"]
            return "POST", f"{ALL}/{space}/tags", {"tags": [{"name": name} for name in names]}
        case ["add", "tag"]:
            return "POST", f"{ALL}/{space}/tags/{'a' if case == 'taken' else 'c'}", None
        case ["add", one]:
            body = {**NAMED[one], "name": "a" if case == "taken" else "c"}
            return "POST", f"{ALL}/{space}/{PATHS[one]}", body
        case [verb, one]:
            path = f"{ALL}/{space}/{PATHS[one]}/{'none' if case == 'no such' else 'a'}"
            if verb == "change":
                return "PUT", path, {**NAMED[one], "name": "b" if case == "taken" else "c"}
            return {"show": "GET", "delete": "DELETE"}[verb], path, None
        case _:
            raise AssertionError(call)


@pytest.fixture
async def callers(store: FaultyStore, tmp_path: Path) -> AsyncIterator[Callers]:
    file = tmp_path / "tokens.toml"
    headers = everybody(file)
    auth = {"mode": "tokens", "tokens_file": str(file)}
    async with running(store, tmp_path, auth=auth) as gate:
        yield Callers(gate, headers)


async def make(callers: Callers, name: str, *, protected: bool) -> None:
    body = {
        "namespace": name,
        "owner": "p1",
        "protected": protected,
        "objects": [{"name": "a"}, {"name": "b"}],
        "properties": {"a": PROPERTY, "b": PROPERTY},
        "tags": [{"name": "a"}, {"name": "b"}],
        "resource_type_associations": [{"name": "a"}, {"name": "b"}],
    }
    answer = await callers.ask("admin", "POST", ALL, json=body)
    assert answer.status == 201, answer.body


async def ask(callers: Callers, call: str, case: str) -> Answer:
    name = f"namespace {case}"
    await make(callers, name, protected=case == "protected")
    method, path, body = call_of(call, case, name)
    if case == "other body":
        body = {"nonsense": True}
    caller = case if case in callers.headers else "admin"
    return await callers.ask(caller, method, path, **({} if body is None else {"json": body}))


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
async def test_a_call(callers: Callers, row: list[str]) -> None:
    await make(callers, "other", protected=False)
    found = [row[0]]
    for case, expected in zip(HEAD[1:], row[1:], strict=True):
        answer = await ask(callers, row[0], case) if expected else None
        found.append("" if answer is None else str(answer.status))
        if answer is not None and answer.status >= 400:
            assert answer.message
        if answer is not None and answer.status == 204:
            assert answer.body == b""
    assert found == row


ALLOWED = {
    "": "GET, POST",
    "/n": "GET, PUT, DELETE",
    "/n/objects": "GET, POST, DELETE",
    "/n/objects/a": "GET, PUT, DELETE",
    "/n/properties": "GET, POST, DELETE",
    "/n/properties/a": "GET, PUT, DELETE",
    "/n/tags": "GET, POST, DELETE",
    "/n/tags/a": "GET, POST, PUT, DELETE",
    "/n/resource_types": "GET, POST",
    "/n/resource_types/a": "DELETE",
}


@pytest.mark.parametrize("path", ALLOWED)
async def test_another_method_is_405_and_a_slash_more_is_404(callers: Callers, path: str) -> None:
    for method in ("HEAD", "PATCH"):
        answer = await callers.ask("admin", method, f"{ALL}{path}")
        assert answer.status == 405
        allowed = {name.strip() for name in answer.headers["Allow"].split(",")}
        assert allowed == set(ALLOWED[path].split(", "))
    assert (await callers.ask("admin", "GET", f"{ALL}{path}/")).status == 404


READ_ONLY = {
    "create": ("self", "schema", "created_at", "updated_at"),
    "change": ("self", "schema", "created_at", "updated_at"),
    "add object": ("self", "schema", "created_at", "updated_at"),
    "change object": ("self", "schema", "created_at", "updated_at"),
    "add property": ("created_at", "updated_at"),
    "change property": ("created_at", "updated_at"),
    "change tag": ("created_at", "updated_at"),
    "add type": ("created_at", "updated_at"),
}


@pytest.mark.parametrize("call", READ_ONLY)
async def test_what_is_wrong_first_is_told_first(callers: Callers, call: str) -> None:
    method, path, body = call_of(call, "no namespace", "x")
    assert body is not None
    for caller in ("admin", "stranger"):  # the body before the namespace and the rules
        for name in ("self", "schema", "created_at", "updated_at"):
            answer = await callers.ask(caller, method, path, json={**body, name: "x", "y": 1})
            assert answer.status == (403 if name in READ_ONLY[call] else 400)
        for wrong in ({**body, "y": 1}, {**body, "name": None, "namespace": None}, [body], []):
            assert (await callers.ask(caller, method, path, json=wrong)).status == 400
        for text in ("", "{", "1", '"x"', "null"):
            answer = await callers.ask(caller, method, path, data=text)
            assert answer.status == 400


async def test_a_namespace_of_each_visibility_is_seen_by_whom_it_is_for(callers: Callers) -> None:
    for name, owner, visibility in (
        ("mine", "p1", "private"), ("all", "p9", "public"), ("theirs", "p2", "private"),
    ):  # fmt: skip
        body = {"namespace": name, "owner": owner, "visibility": visibility}
        assert (await callers.ask("admin", "POST", ALL, json=body)).status == 201
    seen = {
        "admin": {"mine", "all", "theirs"},
        "owner": {"mine", "all"},
        "reader": {"mine", "all"},
        "stranger": {"all", "theirs"},
    }
    for caller, expected in seen.items():
        answer = await callers.ask(caller, "GET", ALL)
        assert {one["namespace"] for one in answer.json["namespaces"]} == expected
        for name in ("mine", "all", "theirs"):
            answer = await callers.ask(caller, "GET", f"{ALL}/{name}")
            assert answer.status == (200 if name in expected else 404)
    answer = await callers.ask("stranger", "GET", f"{ALL}?marker=mine")
    assert answer.status == 403
    answer = await callers.ask("stranger", "DELETE", f"{ALL}/all")
    assert answer.status == 403
    answer = await callers.ask("stranger", "GET", f"{ALL}?visibility=private")
    assert [one["namespace"] for one in answer.json["namespaces"]] == ["theirs"]


async def test_an_administrator_takes_over_what_it_changes_without_an_owner(
    callers: Callers,
) -> None:
    await make(callers, "n", protected=False)
    answer = await callers.ask("admin", "PUT", f"{ALL}/n", json={"namespace": "n", "owner": "p1"})
    assert answer.json["owner"] == "p1"
    answer = await callers.ask("admin", "PUT", f"{ALL}/n", json={"namespace": "n"})
    assert answer.json["owner"] == "admins"
