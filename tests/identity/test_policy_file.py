"""The policy file: what it may hold, and what comes of a change."""

from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tidegate.domain.policy import Caller, Policy
from tidegate.identity.policy_file import PolicyFile, PolicyFileError, read

READER = Caller(project="p1", roles=frozenset({"reader"}))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.yaml"


@pytest.fixture
def policy() -> Policy:
    return Policy()


async def opened(path: Path, policy: Policy, text: str) -> PolicyFile:
    path.write_text(text, encoding="utf-8")
    file = PolicyFile(path, policy)
    await file.open()
    return file


async def test_a_rule_replaces_the_built_in_one(path: Path, policy: Policy) -> None:
    assert not policy.allows(READER, "add_image")
    await opened(path, policy, '"add_image": "role:reader"\n# a comment\n')
    assert policy.allows(READER, "add_image")
    assert not policy.allows(READER, "delete_image")


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("", {}),
        ("# nothing\n", {}),
        ("add_image: role:reader", {"add_image": "role:reader"}),
        ('{"add_image": "@", "delete_image": ""}', {"add_image": "@", "delete_image": ""}),
        ("add_image: [['role:a', 'role:b'], 'role:c']",
         {"add_image": [["role:a", "role:b"], ["role:c"]]}),
        ("add_image: rule:mine\nmine: role:x", {"add_image": "rule:mine", "mine": "role:x"}),
        ("add_image: >\n  role:a\n  or role:b\n", {"add_image": "role:a or role:b\n"}),
        ("manage_image_cache: rule:elsewhere or rule:mine\nmine: role:x", {"mine": "role:x"}),
    ],
)  # fmt: skip
def test_what_a_file_may_hold(path: Path, text: str, rules: object) -> None:
    path.write_text(text, encoding="utf-8")
    assert read(path) == rules


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("add_image: role:x and", ", line 1: add_image: a check is missing at letter 11"),
        ("a: '@'\nadd_image: rule:b\n", ", line 2: add_image: there is no rule 'b' (at letter 1)"),
        ("\n\nadd_imag: role:x",
         ", line 3: add_imag: nothing asks such a rule; did you mean 'add_image'?"),
        ("frobnicate: role:x", ", line 1: frobnicate: nothing asks such a rule"),
        ("add_image:", 'line 1: add_image: a rule is a text in quotation marks, like "role:admin"'),
        ("add_image: !", "line 1: add_image: a rule is a text"),
        ("add_image: '  '", "line 1: add_image: a rule is a text"),
        ("add_image: true", "line 1: add_image: a rule is a text"),
        ("add_image: 5", "line 1: add_image: a rule is a text"),
        ("add_image: {a: b}", "line 1: add_image: a rule is a text"),
        ("add_image: @", ", line 1: found character '@' that cannot start any token"),
        ("add_image: '@'\nadd_image: '!'", ", line 2: add_image: it stands there twice"),
        ("- add_image", ": it must be names of rules, each with a rule"),
        ("a: rule:b\nb: rule:a\n", "it asks itself: a → b → a"),
        ("x: 'http://y'\nadd_image: rule:x\n", ", line 1: x: 'http://y': no other server is asked"),
    ],
)  # fmt: skip
async def test_what_it_may_not(path: Path, policy: Policy, text: str, said: str) -> None:
    with pytest.raises(PolicyFileError) as refused:
        await opened(path, policy, text)
    found = str(refused.value)
    assert found.startswith(str(path))
    assert said in found
    assert "\n" not in found


async def test_a_file_that_is_not_there_or_no_text(path: Path, policy: Policy) -> None:
    with pytest.raises(PolicyFileError, match=r"^cannot read .*policy\.yaml: No such file"):
        await PolicyFile(path, policy).open()
    path.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(PolicyFileError, match=r"it is not UTF-8$"):
        await PolicyFile(path, policy).open()


async def test_what_guards_nothing_here_is_told(path: Path, policy: Policy) -> None:
    with capture_logs() as logs:
        await opened(path, policy, "manage_image_cache: '@'\nadd_image: '@'\n")
    (entry,) = logs
    assert entry["log_level"] == "warning"
    assert entry["rules"] == ["manage_image_cache"]


async def test_a_change_is_heeded_and_a_bad_one_is_told_once(path: Path, policy: Policy) -> None:
    file = await opened(path, policy, "add_image: role:reader")
    path.write_text("add_image: role:writer", encoding="utf-8")
    await file.once()
    assert not policy.allows(READER, "add_image")
    path.write_text("add_image: role:reader and", encoding="utf-8")
    with capture_logs() as logs:
        await file.once()
        await file.once()
        path.unlink()
        await file.once()
    assert [entry["log_level"] for entry in logs] == ["error", "error"]
    assert not policy.allows(READER, "add_image")
    path.write_text("add_image: '@'", encoding="utf-8")
    await file.once()
    assert policy.allows(READER, "add_image")
    path.write_text("", encoding="utf-8")
    await file.once()
    assert not policy.allows(READER, "add_image")
