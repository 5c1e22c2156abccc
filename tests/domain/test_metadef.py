"""What is true of metadata definitions without a catalog."""

import pytest

from tidegate.domain.metadef import Definition, Kind, normal, prefixed

CONTENTS = {
    Kind.ASSOCIATION: [
        Definition(name="host", content={"prefix": "h_"}),
        Definition(name="image"),
    ],
    Kind.OBJECT: [
        Definition(name="o", content={"required": ["a"], "properties": {"a": {"title": "A"}}}),
        Definition(name="bare"),
    ],
    Kind.TAG: [Definition(name="t")],
    Kind.PROPERTY: [Definition(name="p", content={"name": "p", "title": "P"})],
}


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ({"default": 4}, {"default": "4"}),
        ({"default": True}, {"default": "True"}),
        ({"default": 1.5}, {"default": "1.5"}),
        ({"default": "x"}, {"default": "x"}),
        ({"default": None}, {"default": None}),
        ({"default": ["x"]}, {"default": None}),
        ({"default": {}}, {"default": None}),
        ({"minimum": 1.5, "maximum": -1.5}, {"minimum": 1, "maximum": -1}),
        ({"minimum": 2, "title": "T"}, {"minimum": 2, "title": "T"}),
    ],
)
def test_a_property_is_kept_in_a_plain_form(
    sent: dict[str, object], kept: dict[str, object]
) -> None:
    assert normal(sent) == kept


def test_a_prefix_stands_before_the_names_of_properties() -> None:
    found = prefixed(CONTENTS, "host")
    assert [one.name for one in found[Kind.PROPERTY]] == ["h_p"]
    assert found[Kind.PROPERTY][0].content["name"] == "p"
    assert found[Kind.OBJECT][0].content == {
        "required": ["h_a"],
        "properties": {"h_a": {"title": "A"}},
    }
    assert found[Kind.OBJECT][1].content == {}
    assert found[Kind.TAG] == CONTENTS[Kind.TAG]


@pytest.mark.parametrize("resource_type", ["image", "unknown", ""])
def test_without_a_prefix_nothing_changes(resource_type: str) -> None:
    assert prefixed(CONTENTS, resource_type) == CONTENTS
