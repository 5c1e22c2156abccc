"""Metadata definitions of an operator's files."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kit.command import run
from tests.kit.glance import Glance
from tests.kit.server import Server, configure


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    store = {"type": "filesystem", "id": "local", "path": str(tmp_path / "images")}
    with Server(tmp_path, "--config", str(configure(tmp_path, [store]))) as found:
        yield found


def test_an_operators_files(server: Server) -> None:
    glance = Glance(server)
    folder = server.folder / "files"
    folder.mkdir()
    fan = {
        "namespace": "Acme::Fan",
        "visibility": "public",
        "protected": True,
        "x": "no meaning",
        "properties": {"rpm": {"title": "Speed", "type": "integer", "default": 900}},
        "objects": [{"name": "Noise", "properties": {"db": {"title": "L", "type": "number"}}}],
        "resource_type_associations": [{"name": "Acme::Box", "prefix": "fan:"}],
    }
    (folder / "a.json").write_text(json.dumps(fan))
    (folder / "b.json").write_text("{")
    (folder / "c.json").write_text(json.dumps({"display_name": "of no name"}))
    (folder / "note.txt").write_text("no definition")
    config = ("--config", str(server.folder / "tidegate.toml"))

    def load(*more: str) -> tuple[int, dict[str, str]]:
        done = run("metadefs", "load", str(folder), *config, "--json", *more, folder=folder)
        return done.code, {one["file"]: one["result"] for one in json.loads(done.out)}

    code, results = load()
    assert code == 1
    assert results["a.json"] == "added"
    assert "'namespace' is a required property" in results["c.json"]
    assert list(results) == ["a.json", "b.json", "c.json"]
    (folder / "b.json").unlink()
    (folder / "c.json").unlink()
    assert load() == (0, {"a.json": "kept"})
    assert load("--existing", "replace") == (0, {"a.json": "replaced"})
    assert glance.fields("md-namespace-show", "Acme::Fan")["owner"] == "admin"
    assert ["Acme::Box"] in glance.rows("md-resource-type-list")
    (folder / "a.json").unlink()
    done = run("metadefs", "load", str(folder), *config, folder=folder)
    assert done.code == 2
    assert "there is no file" in done.err
