"""``tidegate token``, and a gateway that is asked with what it prints."""

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.kit.command import Outcome, run, serving, wait_for

from tidegate.cli import main

Tidegate = Callable[..., Outcome]


@pytest.fixture
def tidegate(tmp_path: Path) -> Tidegate:
    def call(*arguments: str, **environ: str) -> Outcome:
        return run(*arguments, folder=tmp_path, environ=environ)

    return call


def fails(found: Outcome) -> str:
    assert (found.code, found.out) == (1, b""), found
    assert found.line.startswith("tidegate: ")
    return found.line


def add(tidegate: Tidegate, *arguments: str, user: str = "ann", project: str = "p1") -> str:
    found = tidegate("token", "add", "--user", user, "--project", project, *arguments)
    assert found.code == 0, found.err
    return found.out.decode().strip()


# the file


def test_a_token_is_shown_once_and_kept_nowhere(tidegate: Tidegate, tmp_path: Path) -> None:
    token = add(tidegate, "--role", "admin", "--role", "auditor")
    kept = (tmp_path / "tokens.toml").read_text(encoding="utf-8")
    assert token.startswith("tg_")
    assert token not in kept
    assert (tmp_path / "tokens.toml").stat().st_mode & 0o777 == 0o600
    listed = tidegate("token", "list", "--json")
    (entry,) = json.loads(listed.out)
    assert (entry["id"], entry["user"], entry["project"]) == ("ann-1", "ann", "p1")
    assert (entry["roles"], entry["expires"]) == (["admin", "auditor"], None)
    # neither the token nor its hash
    digest = kept.partition('sha256 = "')[2][:64]
    assert entry["sha256"] == f"{digest[:8]}…"
    assert not {token, digest} & set(listed.out.decode().split('"'))


def test_tokens_are_added_listed_and_revoked(tidegate: Tidegate) -> None:
    for arguments in (["--id", "first"], [], ["--expires", "90d"]):
        add(tidegate, *arguments)
    made = tidegate("token", "add", "--user", "b@c", "--project", "p2", "--json",
                    "--expires", "2099-01-01")  # fmt: skip
    made_as = json.loads(made.out)
    assert (made_as["id"], made_as["expires"]) == ("b-c-1", "2099-01-01T00:00:00+00:00")
    assert made_as["token"].startswith("tg_")
    listed = {entry["id"]: entry for entry in json.loads(tidegate("token", "list", "--json").out)}
    assert list(listed) == ["first", "ann-1", "ann-2", "b-c-1"]
    ends = datetime.fromisoformat(listed["ann-2"]["expires"]) - datetime.now(UTC)
    assert timedelta(days=89) < ends < timedelta(days=91)
    assert tidegate("token", "revoke", "ann-1").code == 0
    table = tidegate("token", "list").out.decode()
    assert "ann-1" not in table
    assert "first" in table
    assert "2099-01-01" in table


def test_the_configuration_names_the_file_and_file_wins(tidegate: Tidegate, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    config.write_text(f'[auth]\ntokens_file = "{tmp_path / "there"}"\n', encoding="utf-8")
    add(tidegate, "--config", str(config))
    assert (tmp_path / "there").exists()
    add(tidegate, "--config", str(config), "--file", "here")
    assert (tmp_path / "here").exists()
    found = tidegate("token", "list", "--json", TIDEGATE_AUTH__TOKENS_FILE="there")
    assert len(json.loads(found.out)) == 1


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["list"], "No such file"),
        (["revoke", "nobody"], "no token nobody"),
        (["add", "--user", "u", "--project", ""], "project"),
        (["add", "--user", "u", "--project", "p\n"], "project: must be printable"),
        (["add", "--user", "u", "--project", "p", "--id", "a b"], "id"),
        (["add", "--user", "u", "--project", "p", "--expires", "soon"], "90d"),
        (["add", "--user", "u", "--project", "p", "--expires", "2001-01-01"], "future"),
        (["add", "--user", "u", "--project", "p", "--file", "no/tokens"], "cannot write"),
        (["list", "--config", "nowhere.toml"], "cannot read nowhere.toml"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    word: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["tidegate", "token", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 1
    shown = capfd.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("tidegate: ")
    assert word in line
    assert shown.out == ""
    assert list(tmp_path.iterdir()) == []


def test_an_id_is_given_once(tidegate: Tidegate) -> None:
    add(tidegate, "--id", "one")
    found = tidegate("token", "add", "--user", "u", "--project", "p", "--id", "one")
    assert "one already" in fails(found)


def test_a_file_that_is_open_to_others_is_not_touched(tidegate: Tidegate, tmp_path: Path) -> None:
    add(tidegate)
    (tmp_path / "tokens.toml").chmod(0o644)
    for arguments in (["list"], ["revoke", "ann-1"], ["add", "--user", "u", "--project", "p"]):
        assert "chmod 600" in fails(tidegate("token", *arguments))


# a gateway


@pytest.mark.parametrize(
    ("text", "mode", "word"),
    [
        (None, 0o600, "cannot read tokens.toml"),
        ("", 0o644, "chmod 600 tokens.toml"),
        ("[[token]]\nid = 'x'\n", 0o600, "tokens.toml, token at line 1: sha256"),
    ],
)
def test_a_gateway_does_not_start_with_a_bad_file(
    tidegate: Tidegate, tmp_path: Path, text: str | None, mode: int, word: str
) -> None:
    if text is not None:
        (tmp_path / "tokens.toml").write_text(text, encoding="utf-8")
        (tmp_path / "tokens.toml").chmod(mode)
    found = tidegate("serve", "--port", "0", TIDEGATE_AUTH__MODE="tokens")
    assert word in fails(found)


def test_a_gateway_with_tokens_is_open_to_others_and_heeds_a_revocation(
    tidegate: Tidegate, tmp_path: Path
) -> None:
    admin, member = add(tidegate, "--role", "admin"), add(tidegate, user="mem")
    (tmp_path / "disk.img").write_bytes(b"bytes" * 1000)
    # no --insecure
    with serving(
        tmp_path, "--host", "0.0.0.0", "--workers", "2", TIDEGATE_AUTH__MODE="tokens"
    ) as gateway:
        url = gateway.url.replace("0.0.0.0", "127.0.0.1")

        def image(token: str, *arguments: str) -> Outcome:
            return tidegate("image", *arguments, TIDEGATE_URL=url, TIDEGATE_TOKEN=token)

        pushed = image(member, "push", "disk.img", "--json")
        image_id = json.loads(pushed.out)["id"]
        assert json.loads(pushed.out)["owner"] == "p1"
        assert image(admin, "deactivate", "disk.img").code == 0
        assert "403" in fails(image(member, "reactivate", image_id))
        assert "deactivated" in fails(image(member, "pull", image_id, "-o", "copy"))
        assert image(admin, "reactivate", image_id).code == 0
        assert image(member, "pull", image_id, "-o", "copy").code == 0
        assert image(member, "deactivate", image_id).code == 0
        assert image(member, "reactivate", image_id).code == 0
        assert "401" in fails(image("", "list"))
        assert tidegate("token", "revoke", "mem-1").code == 0

        def refused() -> bool:
            return image(member, "list").code == 1

        wait_for(refused, "the token to be refused", within=30)
        assert image(admin, "list").code == 0
        log = b"".join(gateway.log).decode()
        assert admin not in log
        assert member not in log
