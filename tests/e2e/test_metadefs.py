"""Metadata definitions by the clients that people have, and by an operator's files."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from tests.kit.command import environment, run
from tests.kit.server import Server, configure

# glance's own shell, once for a row of commands
SHELL = """
import contextlib, io, json, sys
from glanceclient.shell import OpenStackImagesShell
url, *commands = json.loads(sys.argv[1])
for command in commands:
    out, failure = io.StringIO(), ""
    with contextlib.redirect_stdout(out):
        try:
            OpenStackImagesShell().main(
                ["--os-image-api-version", "2", "--os-image-url", url, "--os-auth-token", "none"]
                + command
            )
        except (Exception, SystemExit) as error:
            failure = f"{type(error).__name__}: {error}"
    print(json.dumps([out.getvalue(), failure]))
"""
SDK = """
import json, sys
import openstack
url = sys.argv[1]
image = openstack.connect(
    auth_type="none", endpoint=url, image_api_version="2", region_name="x"
).image
"""
ROW = {"title": "Row", "type": "integer", "minimum": 1, "default": 4}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("metadefs")
    store = {"type": "filesystem", "id": "local", "path": str(folder / "images")}
    with Server(folder, "--config", str(configure(folder, [store]))) as found:
        yield found


def python(server: Server, program: str, argument: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, argument],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=server.folder,
        env=environment(HOME=str(server.folder), COLUMNS="200"),
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[1:]]


class Glance:
    def __init__(self, server: Server) -> None:
        self._server = server

    def run(self, *commands: tuple[str, ...]) -> list[list[list[str]]]:
        """What each printed, as the rows of its table."""
        lines = python(self._server, SHELL, json.dumps([self._server.url, *commands]))
        found = [json.loads(line) for line in lines.splitlines()]
        failed = [
            (command, failure)
            for command, (_, failure) in zip(commands, found, strict=True)
            if failure
        ]
        assert failed == []
        return [rows(out) for out, _ in found]


@pytest.fixture(scope="module")
def glance(server: Server) -> Glance:
    return Glance(server)


def test_glance_and_namespaces(glance: Glance, server: Server) -> None:
    everything = {
        "namespace": "Imported",
        "objects": [{"name": "o", "properties": {"x": ROW}}],
        "properties": {"row": ROW},
        "tags": [{"name": "t"}],
        "resource_type_associations": [{"name": "Acme::Host", "prefix": "h_"}],
    }
    (server.folder / "import.json").write_text(json.dumps(everything))
    made, imported, shown, changed, listed, filtered, _, left = glance.run(
        ("md-namespace-create", "Acme::Rack", "--display-name", "Räck", "--visibility", "public"),
        ("md-namespace-import", "--file", "import.json"),
        ("md-namespace-show", "Imported", "--resource-type", "Acme::Host"),
        ("md-namespace-update", "Imported", "--namespace", "Renamed", "--description", "d"),
        ("md-namespace-list", "--page-size", "1"),
        ("md-namespace-list", "--resource-types", "Acme::Host", "--visibility", "private"),
        ("md-namespace-delete", "Acme::Rack"),
        ("md-namespace-list",),
    )
    assert ["display_name", "Räck"] in made
    assert ["tags", '["t"]'] in imported or ["tags", "['t']"] in imported
    assert any(row[0] == "properties" and "h_row" in row[1] for row in shown)
    assert ["namespace", "Renamed"] in changed
    assert ["description", "d"] in changed
    assert {"Acme::Rack", "Renamed"} <= {row[0] for row in listed}
    assert ["Renamed"] in filtered
    assert ["Acme::Rack"] not in left


def test_glance_and_what_a_namespace_holds(glance: Glance) -> None:
    space, schema = "n", json.dumps({"minimum": 1, "default": 4})
    found = glance.run(
        ("md-namespace-create", space),
        ("md-property-create", space, "--name", "p", "--title", "P", "--type", "integer",
         "--schema", schema),
        ("md-property-update", space, "p", "--name", "q", "--title", "Q"),
        ("md-property-show", space, "q"),
        ("md-property-list", space),
        ("md-object-create", space, "--name", "o", "--schema",
         json.dumps({"properties": {"x": ROW}, "required": ["x"]})),
        ("md-object-update", space, "o", "--name", "oo"),
        ("md-object-show", space, "oo"),
        ("md-object-property-show", space, "oo", "x"),
        ("md-object-list", space),
        ("md-tag-create", space, "--name", "t"),
        ("md-tag-update", space, "t", "--name", "tt"),
        ("md-tag-show", space, "tt"),
        # with --append the client breaks before it asks
        ("md-tag-create-multiple", space, "--names", "b,c"),
        ("md-tag-list", space),
        ("md-resource-type-associate", space, "--name", "Acme::Host", "--prefix", "x:"),
        ("md-resource-type-list",),
        ("md-namespace-resource-type-list", space),
        ("md-resource-type-deassociate", space, "Acme::Host"),
        ("md-property-delete", space, "q"),
        ("md-object-delete", space, "oo"),
        ("md-tag-delete", space, "c"),
        ("md-namespace-properties-delete", space),
        ("md-namespace-objects-delete", space),
        ("md-namespace-tags-delete", space),
        ("md-namespace-show", space),
    )  # fmt: skip
    answers = iter(found)
    next(answers)
    assert ["default", "4"] in next(answers)
    assert ["title", "Q"] in next(answers)
    assert ["minimum", "1"] in next(answers)
    assert next(answers) == [["q", "Q", "integer"]]
    assert ["name", "o"] in next(answers)
    assert ["name", "oo"] in next(answers)
    assert any(row[0] == "required" for row in next(answers))
    assert ["title", "Row"] in next(answers)
    assert [row[0] for row in next(answers)] == ["oo"]
    assert ["name", "t"] in next(answers)
    assert ["name", "tt"] in next(answers)
    assert ["name", "tt"] in next(answers)
    assert next(answers) == [["b"], ["c"]]
    assert sorted(next(answers)) == [["b"], ["c"]]
    assert ["prefix", "x:"] in next(answers)
    assert ["Acme::Host"] in next(answers)
    assert next(answers)[0][:2] == ["Acme::Host", "x:"]
    *_, shown = answers
    assert {row[0] for row in shown}.isdisjoint({"tags", "objects", "properties"})


def sdk(server: Server, program: str) -> Any:
    return json.loads(python(server, SDK + program, server.url))


def test_the_sdk(server: Server) -> None:
    found = sdk(
        server,
        """
image.create_metadef_namespace(namespace="sdk", visibility="public")
image.update_metadef_namespace("sdk", display_name="S")
image.create_metadef_resource_type_association("sdk", name="Acme::Host", prefix="h_")
image.create_metadef_object("sdk", name="o")
properties = {"x": {"title": "X", "type": "string"}}
image.update_metadef_object("o", "sdk", name="oo", properties=properties)
image.create_metadef_property("sdk", name="p", title="P", type="string", enum=["a"])
image.update_metadef_property("p", "sdk", name="p", title="Q", type="string")
space = image.get_metadef_namespace("sdk")
image.add_tag_to_metadef_namespace(space, "t")
space.set_tags(image, ["u", "v"], append=True)
tags = sorted(tag["name"] for tag in space.fetch(image).tags)
image.remove_tag_from_metadef_namespace(space, "t")
found = {
    "namespace": image.get_metadef_namespace("sdk").display_name,
    "namespaces": [one.namespace for one in image.metadef_namespaces(limit=1)],
    "types": [one.name for one in image.metadef_resource_types()],
    "associations": [one.prefix for one in image.metadef_resource_type_associations("sdk")],
    "object": image.get_metadef_object("oo", "sdk").properties,
    "objects": [one.name for one in image.metadef_objects("sdk")],
    "property": image.get_metadef_property("p", "sdk").title,
    "properties": [one.name for one in image.metadef_properties("sdk")],
    "tags": tags,
    "schema": image.get_metadef_namespace_schema().name,
}
image.delete_metadef_object("oo", "sdk")
image.delete_metadef_property("p", "sdk")
image.delete_all_metadef_objects("sdk")
image.delete_all_metadef_properties("sdk")
image.delete_metadef_resource_type_association("Acme::Host", "sdk")
image.delete_metadef_namespace("sdk")
found["left"] = [one.namespace for one in image.metadef_namespaces() if one.namespace == "sdk"]
print(json.dumps(found))
""",
    )
    assert found.pop("types").count("Acme::Host") == 1
    assert "sdk" in found.pop("namespaces")
    assert found == {
        "namespace": "S",
        "associations": ["h_"],
        "object": {"x": {"title": "X", "type": "string"}},
        "objects": ["oo"],
        "property": "Q",
        "properties": ["p"],
        "tags": ["t", "u", "v"],
        "schema": "namespace",
        "left": [],
    }


def test_an_operators_files(server: Server, glance: Glance) -> None:
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
    shown, types = glance.run(("md-namespace-show", "Acme::Fan"), ("md-resource-type-list",))
    assert ["owner", "admin"] in shown
    assert ["Acme::Box"] in types
    (folder / "a.json").unlink()
    done = run("metadefs", "load", str(folder), *config, folder=folder)
    assert done.code == 2
    assert "there is no file" in done.err
