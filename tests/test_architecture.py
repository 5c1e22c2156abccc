"""Who may import whom: down only, and libraries keep to their rooms."""

import ast
from collections.abc import Iterator
from pathlib import Path

import tidegate

ROOT = Path(tidegate.__file__).parent

GROUND = {"settings", "telemetry", "killpoints", "wire", "diagram", "private_files"}
FLOORS = {
    "domain": 0,
    "catalog": 1,
    "stores": 1,
    "identity": 1,
    "lifecycle": 1,
    "transfer": 2,
    "services": 3,
    "api": 4,
    "jobs": 4,
    "app": 5,
    "foundation": 5,
    "worker": 5,
    "server": 5,
    "cli": 5,
    "client": 5,
    "check": 5,
    "children": 5,
    "dev": 5,
    "bench": 5,
    "seaweedfs": 5,
    "__main__": 5,
}
LEVEL = {  # what a floor may use of its own height
    5: set(FLOORS) - set(GROUND),
}
ROOMS = {
    "aiohttp.web": {"api", "app", "bench"},
    "aiobotocore": {"stores", "bench"},
    "botocore": {"stores", "bench"},
    "sqlalchemy": {"catalog"},
    "aiosqlite": {"catalog"},
    "alembic": {"catalog"},
    "oslo_utils": {"transfer"},
    "typer": {"cli"},
    "rich": {"cli", "bench"},
    "fastapi": set(),
}


def modules() -> Iterator[tuple[str, str, ast.Module]]:
    """Room, file and syntax of every module."""
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if name != "__init__.py":
            room = name.split("/")[0].removesuffix(".py")
            yield room, name, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are written in full"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_every_module_stands_on_a_floor() -> None:
    assert {room for room, _, _ in modules()} <= GROUND | set(FLOORS)


def test_imports_go_down_only() -> None:
    wrong = []
    for room, name, tree in modules():
        for target in imports(tree):
            if not target.startswith("tidegate."):
                continue
            other = target.split(".")[1]
            if other == room:
                continue
            if room in GROUND or FLOORS[room] == 0:
                allowed = False
            elif other in GROUND:
                allowed = True
            elif FLOORS[room] == FLOORS[other]:
                allowed = other in LEVEL.get(FLOORS[room], set())
            else:
                # identity is asked by the HTTP layer, the contracts of floor 1 by services
                allowed = FLOORS[other] < FLOORS[room]
            if not allowed:
                wrong.append(f"{name} imports {target}")
    assert wrong == []


def test_libraries_keep_to_their_rooms() -> None:
    wrong = [
        f"{name} imports {target}"
        for room, name, tree in modules()
        for target in imports(tree)
        for library, rooms in ROOMS.items()
        if (target == library or target.startswith(f"{library}.")) and room not in rooms
    ]
    assert wrong == []


def test_sec_11_one_place_opens_connections_that_users_choose() -> None:
    allowed = {
        "stores/fetch.py",
        "stores/http_put.py",
        "stores/s3.py",
        "stores/s3_http.py",
        "identity/keystone_api.py",
        "client.py",
    }
    found = {
        name
        for room, name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "ClientSession" and room != "bench"
    }
    assert found <= allowed


def test_sec_83_nothing_dangerous_is_called() -> None:
    names = {"eval", "exec", "system", "popen", "mktemp"}
    found = [
        f"{name}: {ast.unparse(node.func)}"
        for _, name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Name) and node.func.id in names)
            or (isinstance(node.func, ast.Attribute) and node.func.attr in names - {"exec", "eval"})
            or any(keyword.arg == "shell" for keyword in node.keywords)
        )
    ]
    assert found == []


def test_broad_excepts_stand_at_the_edges_alone() -> None:
    found = {
        name
        for _, name, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id == "Exception"))
    }
    assert found <= {
        "api/middleware.py",
        "catalog/point_reads.py",
        "cli/__init__.py",
        "jobs/runner.py",
        "jobs/worker.py",
        "transfer/inspect.py",  # whatever an inspector makes of a body is a verdict
    }
