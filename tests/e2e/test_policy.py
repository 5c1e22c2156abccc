"""``tidegate policy``, and a gateway that is given a policy file."""

import json
from pathlib import Path

import pytest
from tests.kit.command import run

from tidegate.domain.rule_texts import TEXTS


def test_the_built_in_rules_are_shown(tmp_path: Path) -> None:
    found = run("policy", "show", "--json", folder=tmp_path)
    assert json.loads(found.out) == TEXTS
    table = run("policy", "show", folder=tmp_path, environ={"COLUMNS": "200"}).out.decode()
    assert "built in" in table
    assert "rule:context_is_admin" in table


def test_a_files_rules_stand_in_their_places(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("add_image: rule:mine\nmine: '@'\n", encoding="utf-8")
    (tmp_path / "c.toml").write_text('[policy]\nfile = "p.yaml"\n', encoding="utf-8")
    for arguments in (["--file", "p.yaml"], ["--config", "c.toml"]):
        found = run("policy", "show", "--json", *arguments, folder=tmp_path)
        assert json.loads(found.out) == {**TEXTS, "add_image": "rule:mine", "mine": "@"}
    assert "p.yaml" in run("policy", "show", "--file", "p.yaml", folder=tmp_path).out.decode()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "tidegate: cannot read p.yaml: No such file or directory"),
        ("add_imag: '@'", "tidegate: p.yaml, line 1: add_imag: nothing asks such a rule;"
         " did you mean 'add_image'?"),
        ("add_image: role:x or", "tidegate: p.yaml, line 1: add_image: a check is missing at"
         " letter 10"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_line_and_no_gateway(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "p.yaml").write_text(text, encoding="utf-8")
    shown = run("policy", "show", "--file", "p.yaml", folder=tmp_path)
    served = run(
        "serve", "--port", "0", folder=tmp_path, environ={"TIDEGATE_POLICY__FILE": "p.yaml"}
    )
    for found in (shown, served):
        assert (found.code, found.line) == (1, said)
