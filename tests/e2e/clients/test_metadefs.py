"""Metadata definitions, call by call, by the three clients."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openstack as library
import pytest
from openstack import exceptions
from tests.e2e.clients.conftest import Gate
from tests.kit.server import Server
from tests.kit.shells import Glance, Openstack

pytestmark = pytest.mark.filterwarnings("ignore")  # of the library, about itself

ROW = {"title": "Row", "type": "integer", "minimum": 1, "default": 4}
DEFS = "/v2/metadefs/namespaces"


@pytest.fixture
def space(gate: Gate, name: str) -> str:
    """A namespace with one of everything: ``row``, ``o`` with ``x``, ``t``, ``Acme::Host``."""
    everything = {
        "namespace": name,
        "visibility": "public",
        "properties": {"row": ROW},
        "objects": [{"name": "o", "properties": {"x": ROW}}],
        "tags": [{"name": "t"}],
        "resource_type_associations": [{"name": "Acme::Host", "prefix": "h_"}],
    }
    gate.ask("POST", DEFS, everything)
    return name


# openstack image metadef …


def test_namespaces_by_openstack(openstack: Openstack, name: str) -> None:
    made = openstack.json("image", "metadef", "namespace", "create", "--display-name", "Räck",
                          "--description", "d", "--public", "--protected", name)  # fmt: skip
    assert (made["namespace"], made["display_name"]) == (name, "Räck")
    assert (made["visibility"], made["protected"]) == ("public", True)
    told = openstack.fails("image", "metadef", "namespace", "create", name)
    assert "409" in told
    told = openstack.fails("image", "metadef", "namespace", "delete", name)
    assert "protected" in told
    openstack("image", "metadef", "namespace", "set", "--display-name", "new", "--private",
              "--unprotected", "--tag", "one", "--tag", "two", name)  # fmt: skip
    shown = openstack.json("image", "metadef", "namespace", "show", name)
    assert (shown["display_name"], shown["visibility"]) == ("new", "private")
    assert sorted(tag["name"] for tag in shown["tags"]) == ["one", "two"]
    openstack("image", "metadef", "namespace", "unset", "--tag", "one", name)
    shown = openstack.json("image", "metadef", "namespace", "show", name)
    assert [tag["name"] for tag in shown["tags"]] == ["two"]
    openstack("image", "metadef", "namespace", "unset", "--all-tags", name)
    assert not openstack.json("image", "metadef", "namespace", "show", name).get("tags")
    openstack("image", "metadef", "namespace", "delete", name)
    told = openstack.fails("image", "metadef", "namespace", "show", name)
    assert f"No MetadefNamespace found for {name}" in told


def test_the_list_of_namespaces_by_openstack(openstack: Openstack, space: str) -> None:
    def listed(*options: str) -> list[str]:
        rows = openstack.json("image", "metadef", "namespace", "list", *options)
        return [row["namespace"] for row in rows]

    assert space in listed()
    assert space in listed("--resource-types", "Acme::Host", "--visibility", "public")
    assert space not in listed("--resource-types", "Acme::Nothing")
    assert space not in listed("--visibility", "private")


def test_objects_by_openstack(openstack: Openstack, space: str) -> None:
    made = openstack.json("image", "metadef", "object", "create", "--namespace", space, "p")
    assert (made["name"], made["namespace_name"]) == ("p", space)
    rows = openstack.json("image", "metadef", "object", "list", space)
    assert sorted(row["name"] for row in rows) == ["o", "p"]
    shown = openstack.json("image", "metadef", "object", "property", "show", space, "o", "x")
    assert (shown["title"], shown["minimum"]) == ("Row", 1)
    openstack("image", "metadef", "object", "update", space, "o", "--name", "oo")
    assert openstack.json("image", "metadef", "object", "show", space, "oo")["name"] == "oo"
    openstack("image", "metadef", "object", "delete", space, "oo", "p")
    assert openstack.json("image", "metadef", "object", "list", space) == []


def test_properties_by_openstack(openstack: Openstack, space: str) -> None:
    made = openstack.json(
        "image", "metadef", "property", "create", "--name", "p", "--title", "P",
        "--type", "integer", "--schema", '{"minimum": 1, "default": 4}', space,
    )  # fmt: skip
    assert (made["name"], made["minimum"]) == ("p", 1)
    rows = openstack.json("image", "metadef", "property", "list", space)
    assert {row["name"]: row["title"] for row in rows} == {"p": "P", "row": "Row"}
    openstack("image", "metadef", "property", "set", "--title", "Q", space, "p")
    shown = openstack.json("image", "metadef", "property", "show", space, "p")
    assert (shown["title"], shown["minimum"]) == ("Q", 1)
    openstack("image", "metadef", "property", "delete", space, "p", "row")
    assert openstack.json("image", "metadef", "property", "list", space) == []


def test_resource_types_by_openstack(openstack: Openstack, space: str) -> None:
    openstack("image", "metadef", "resource", "type", "association", "create", space, "Acme::Box")
    rows = openstack.json("image", "metadef", "resource", "type", "association", "list", space)
    assert sorted(row["Name"] for row in rows) == ["Acme::Box", "Acme::Host"]
    rows = openstack.json("image", "metadef", "resource", "type", "list")
    assert {"Acme::Box", "Acme::Host"} <= {row["Name"] for row in rows}
    openstack("image", "metadef", "resource", "type", "association", "delete", space, "Acme::Box")
    rows = openstack.json("image", "metadef", "resource", "type", "association", "list", space)
    assert [row["Name"] for row in rows] == ["Acme::Host"]


# glance md-…


def test_namespaces_by_glance(glance: Glance, name: str, folder: Path) -> None:
    made = glance.fields("md-namespace-create", name, "--display-name", "Räck",
                         "--visibility", "public")  # fmt: skip
    assert made["display_name"] == "Räck"
    assert "is there already" in glance.run("md-namespace-create", name, fails=True)
    changed = glance.fields("md-namespace-update", name, "--namespace", f"{name}-2",
                            "--description", "d")  # fmt: skip
    assert (changed["namespace"], changed["description"]) == (f"{name}-2", "d")
    glance.run("md-namespace-delete", f"{name}-2")
    assert "not found" in glance.run("md-namespace-show", f"{name}-2", fails=True)


def test_a_namespace_with_everything_by_glance(glance: Glance, name: str, folder: Path) -> None:
    everything = {
        "namespace": name,
        "objects": [{"name": "o", "properties": {"x": ROW}}],
        "properties": {"row": ROW},
        "tags": [{"name": "t"}],
        "resource_type_associations": [{"name": "Acme::Host", "prefix": "h_"}],
    }
    (folder / f"{name}.json").write_text(json.dumps(everything))
    made = glance.fields("md-namespace-import", "--file", f"{name}.json")
    assert json.loads(made["tags"]) == ["t"]
    shown = glance.fields("md-namespace-show", name, "--resource-type", "Acme::Host")
    assert json.loads(shown["properties"]) == ["h_row"]


def test_the_list_of_namespaces_by_glance(glance: Glance, space: str) -> None:
    def listed(*options: str) -> list[str]:
        return [row[0] for row in glance.rows("md-namespace-list", *options)]

    assert space in listed("--page-size", "1")
    assert space in listed("--resource-types", "Acme::Host", "--visibility", "public")
    assert space not in listed("--visibility", "private")


def test_objects_by_glance(glance: Glance, space: str) -> None:
    schema = json.dumps({"properties": {"y": ROW}, "required": ["y"]})
    assert (
        glance.fields("md-object-create", space, "--name", "p", "--schema", schema)["name"] == "p"
    )
    glance.run("md-object-update", space, "p", "--name", "q")
    assert json.loads(glance.fields("md-object-show", space, "q")["required"]) == ["y"]
    assert glance.fields("md-object-property-show", space, "q", "y")["title"] == "Row"
    assert sorted(row[0] for row in glance.rows("md-object-list", space)) == ["o", "q"]
    glance.run("md-object-delete", space, "q")
    assert [row[0] for row in glance.rows("md-object-list", space)] == ["o"]
    glance.run("md-namespace-objects-delete", space)
    assert glance.rows("md-object-list", space) == []


def test_properties_by_glance(glance: Glance, space: str) -> None:
    schema = json.dumps({"minimum": 1, "default": 4})
    made = glance.fields("md-property-create", space, "--name", "p", "--title", "P",
                         "--type", "integer", "--schema", schema)  # fmt: skip
    assert made["default"] == "4"
    glance.run("md-property-update", space, "p", "--name", "q", "--title", "Q")
    assert glance.fields("md-property-show", space, "q")["minimum"] == "1"
    rows = glance.rows("md-property-list", space)
    assert sorted(rows) == [["q", "Q", "integer"], ["row", "Row", "integer"]]
    glance.run("md-property-delete", space, "q")
    assert [row[0] for row in glance.rows("md-property-list", space)] == ["row"]
    glance.run("md-namespace-properties-delete", space)
    assert glance.rows("md-property-list", space) == []


def test_tags_by_glance(glance: Glance, space: str) -> None:
    glance.run("md-tag-create", space, "--name", "u")
    glance.run("md-tag-update", space, "u", "--name", "v")
    assert glance.fields("md-tag-show", space, "v")["name"] == "v"
    assert sorted(glance.rows("md-tag-list", space)) == [["t"], ["v"]]
    glance.run("md-tag-delete", space, "v")
    # with --append the client breaks before it asks
    made = glance.rows("md-tag-create-multiple", space, "--names", "b,c")
    assert made == [["b"], ["c"]]
    assert sorted(glance.rows("md-tag-list", space)) == [["b"], ["c"]]
    glance.run("md-namespace-tags-delete", space)
    assert glance.rows("md-tag-list", space) == []


def test_resource_types_by_glance(glance: Glance, space: str) -> None:
    made = glance.fields("md-resource-type-associate", space, "--name", "Acme::Box",
                         "--prefix", "x:")  # fmt: skip
    assert made["prefix"] == "x:"
    assert ["Acme::Box"] in glance.rows("md-resource-type-list")
    rows = glance.rows("md-namespace-resource-type-list", space)
    assert sorted(row[:2] for row in rows) == [["Acme::Box", "x:"], ["Acme::Host", "h_"]]
    glance.run("md-resource-type-deassociate", space, "Acme::Box")
    rows = glance.rows("md-namespace-resource-type-list", space)
    assert [row[0] for row in rows] == ["Acme::Host"]


# openstacksdk


@pytest.fixture(scope="module")
def sdk(server: Server) -> Iterator[Any]:
    cloud = library.connect(
        auth_type="none", endpoint=server.url, image_api_version="2", region_name="x",
        load_yaml_config=False, load_envvars=False,
    )  # fmt: skip
    yield cloud.image
    cloud.close()


def test_namespaces_by_the_sdk(sdk: Any, name: str) -> None:
    sdk.create_metadef_namespace(namespace=name, visibility="public")
    with pytest.raises(exceptions.ConflictException):
        sdk.create_metadef_namespace(namespace=name)
    sdk.update_metadef_namespace(name, display_name="S")
    assert sdk.get_metadef_namespace(name).display_name == "S"
    assert name in [one.namespace for one in sdk.metadef_namespaces(limit=1)]
    sdk.delete_metadef_namespace(name)
    with pytest.raises(exceptions.NotFoundException):
        sdk.get_metadef_namespace(name)


def test_objects_by_the_sdk(sdk: Any, space: str) -> None:
    sdk.create_metadef_object(space, name="p")
    properties = {"y": {"title": "Y", "type": "string"}}
    sdk.update_metadef_object("p", space, name="q", properties=properties)
    assert sdk.get_metadef_object("q", space).properties == properties
    assert sorted(one.name for one in sdk.metadef_objects(space)) == ["o", "q"]
    sdk.delete_metadef_object("q", space)
    assert [one.name for one in sdk.metadef_objects(space)] == ["o"]
    sdk.delete_all_metadef_objects(space)
    assert list(sdk.metadef_objects(space)) == []


def test_properties_by_the_sdk(sdk: Any, space: str) -> None:
    sdk.create_metadef_property(space, name="p", title="P", type="string", enum=["a"])
    sdk.update_metadef_property("p", space, name="p", title="Q", type="string")
    assert sdk.get_metadef_property("p", space).title == "Q"
    assert sorted(one.name for one in sdk.metadef_properties(space)) == ["p", "row"]
    sdk.delete_metadef_property("p", space)
    assert [one.name for one in sdk.metadef_properties(space)] == ["row"]
    sdk.delete_all_metadef_properties(space)
    assert list(sdk.metadef_properties(space)) == []


def test_tags_by_the_sdk(sdk: Any, gate: Gate, space: str) -> None:
    def tags() -> list[str]:
        # where there is none the library shows what was once added to another namespace
        return sorted(tag["name"] for tag in gate.ask("GET", f"{DEFS}/{space}/tags")["tags"])

    sdk.add_tag_to_metadef_namespace(space, "u")
    assert tags() == ["t", "u"]
    sdk.get_metadef_namespace(space).set_tags(sdk, ["v"], append=True)
    assert tags() == ["t", "u", "v"]
    sdk.remove_tag_from_metadef_namespace(space, "t")
    assert tags() == ["u", "v"]
    sdk.remove_tags_from_metadef_namespace(space)
    assert tags() == []


def test_resource_types_by_the_sdk(sdk: Any, space: str) -> None:
    sdk.create_metadef_resource_type_association(space, name="Acme::Box", prefix="x_")
    assert {"Acme::Box", "Acme::Host"} <= {one.name for one in sdk.metadef_resource_types()}
    found = {one.name: one.prefix for one in sdk.metadef_resource_type_associations(space)}
    assert found == {"Acme::Box": "x_", "Acme::Host": "h_"}
    sdk.delete_metadef_resource_type_association("Acme::Box", space)
    found = [one.name for one in sdk.metadef_resource_type_associations(space)]
    assert found == ["Acme::Host"]


def test_schemas_by_the_sdk(sdk: Any) -> None:
    assert sdk.get_metadef_namespace_schema().name == "namespace"
    assert sdk.get_metadef_namespaces_schema().name == "namespaces"
    assert sdk.get_metadef_resource_type_schema().name == "resource_type_association"
    assert sdk.get_metadef_resource_types_schema().name == "resource_type_associations"
    assert sdk.get_metadef_object_schema().name == "object"
    assert sdk.get_metadef_objects_schema().name == "objects"
    assert sdk.get_metadef_property_schema().name == "property"
    assert sdk.get_metadef_properties_schema().name == "properties"
    assert sdk.get_metadef_tag_schema().name == "tag"
    assert sdk.get_metadef_tags_schema().name == "tags"
