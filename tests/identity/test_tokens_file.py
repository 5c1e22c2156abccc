"""The file of tokens: what it may hold, who may read it, and how it changes."""

import os
import re
import threading
import zlib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from tidegate.identity.tokens_file import (
    Token,
    TokensFileError,
    changing,
    hash_of,
    new_token,
    read,
)

GOOD = f"""
[[token]]
id = "ci-1"
sha256 = "{"a" * 64}"
user = "ci"
project = "p1"
roles = ["member"]
"""
MOMENT = datetime(2027, 1, 1, 12, 30, tzinfo=UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)


def refused(path: Path) -> str:
    with pytest.raises(TokensFileError) as found:
        read(path)
    said = str(found.value)
    assert "\n" not in said
    assert str(path) in said
    return said


def token(name: str, **fields: object) -> Token:
    given = {"id": name, "sha256": hash_of(new_token()), "user": "u", "project": "p",
             "roles": ["member"], **fields}  # fmt: skip
    return Token.model_validate(given)


# reading


def test_an_entry_is_read(path: Path) -> None:
    write(path, GOOD + "expires = 2027-01-01T12:30:00Z\nuser_name = 'The CI'\n")
    (found,) = read(path)
    assert (found.id, found.user, found.project) == ("ci-1", "ci", "p1")
    assert (found.roles, found.expires, found.user_name) == (("member",), MOMENT, "The CI")


@pytest.mark.parametrize("text", ["", "# nobody\n"])
def test_a_file_may_hold_nobody(path: Path, text: str) -> None:
    write(path, text)
    assert read(path) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644, 0o660])
def test_a_file_that_is_open_to_others_is_refused(path: Path, mode: int) -> None:
    write(path, GOOD, mode)
    assert "chmod 600" in refused(path)


def test_a_file_that_is_not_there_is_refused(path: Path) -> None:
    assert "No such file" in refused(path)


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo])
def test_what_is_no_file_is_refused(path: Path, make: object) -> None:
    assert callable(make)
    make(path)
    assert "is not a file" in refused(path) or "Is a directory" in refused(path)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (GOOD.replace("a" * 64, "a" * 63), "line 2: sha256 must be 64 hexadecimal digits"),
        (GOOD.replace("a" * 64, "g" * 64), "line 2: sha256 must be"),
        (GOOD.replace(f'"{"a" * 64}"', "5"), "line 2: sha256 must be"),
        (GOOD.replace("sha256", "sha"), "sha"),
        (GOOD.replace('user = "ci"\n', ""), "line 2: user"),
        (GOOD.replace('project = "p1"', 'project = ""'), "line 2: project"),
        (GOOD.replace('["member"]', "[]"), "line 2: roles"),
        (GOOD.replace('["member"]', '"member"'), "line 2: roles"),
        (GOOD.replace('"ci-1"', '"a b"'), "line 2: id"),
        (GOOD.replace('"p1"', '"p\\n1"'), "must be printable"),
        (GOOD + "expires = 2027-01-01T00:00:00\n", "time zone"),
        (GOOD + "expires = 'tomorrow'\n", "expires"),
        (GOOD + "admin = true\n", "admin"),
        (GOOD + GOOD, "line 9: the id ci-1 is used twice"),
        (GOOD + GOOD.replace("ci-1", "ci-2").replace("a" * 64, "A" * 64), "token of ci-1"),
        ("[token]\nid = 'x'\n", "[[token]]"),
        ("tokens = []\n", "'tokens'"),
        ("token = [5]\n", "token 1"),
        ("token = [", "cannot read"),
    ],
)
def test_a_bad_entry_is_named_with_its_place_and_not_its_hash(
    path: Path, text: str, word: str
) -> None:
    write(path, text)
    said = refused(path)
    assert word in said
    assert "aaaa" not in said.replace(str(path), "")


def test_a_file_that_is_no_text_is_refused(path: Path) -> None:
    path.write_bytes(b"\xff\xfe")
    path.chmod(0o600)
    assert "UTF-8" in refused(path)


# changing


def test_what_is_written_is_read_again(path: Path) -> None:
    first = token("a", user='quo"te\\', project="Größe", roles=["x y", "admin"])
    second = token("b", expires=MOMENT.astimezone(timezone(timedelta(hours=5))))
    with changing(path) as tokens:
        tokens += [first, second]
    assert path.stat().st_mode & 0o777 == 0o600
    assert read(path) == [first, second]
    with changing(path) as tokens:
        del tokens[0]
    assert read(path) == [second]
    assert os.listdir(path.parent) == [path.name]


def test_a_change_that_fails_changes_nothing(path: Path) -> None:
    write(path, GOOD)
    with pytest.raises(TokensFileError), changing(path) as tokens:
        tokens[:] = read(path.with_name("another"))
    assert path.read_text(encoding="utf-8") == GOOD


def test_a_bad_file_is_not_changed(path: Path) -> None:
    write(path, "tokens = []")
    with pytest.raises(TokensFileError), changing(path):
        pass
    assert path.read_text(encoding="utf-8") == "tokens = []"


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(TokensFileError, match=r"cannot write .*No such file"),
        changing(tmp_path / "nowhere" / "tokens.toml"),
    ):
        pass


def test_a_link_stays_one(path: Path, tmp_path: Path) -> None:
    write(tmp_path / "real", GOOD)
    path.symlink_to(tmp_path / "real")
    with changing(path) as tokens:
        tokens.append(token("b"))
    assert path.is_symlink()
    assert [one.id for one in read(path)] == ["ci-1", "b"]


def test_of_changes_at_once_none_is_lost(path: Path) -> None:
    def add(name: str) -> None:
        with changing(path) as tokens:
            tokens.append(token(name))

    names = [f"t-{n}" for n in range(20)]
    threads = [threading.Thread(target=add, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.id for one in read(path)) == sorted(names)


# tokens


def test_a_token_can_be_told_from_any_other_text() -> None:
    found = new_token()
    assert re.fullmatch(r"tg_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}", found)
    letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number = 0
    for letter in found[-6:]:
        number = number * 62 + letters.index(letter)
    assert number == zlib.crc32(found[:-6].encode())


def test_no_token_comes_twice() -> None:
    assert len({new_token() for _ in range(1000)}) == 1000
