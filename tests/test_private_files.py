"""Files that hold a secret: read where they are their owner's alone."""

import os
from pathlib import Path

import pytest

from tidegate.private_files import PrivateFileError, is_open_to_others, read_private


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "secret"
    found.touch(0o600)
    found.write_text("s3cr3t", encoding="utf-8")
    return found


def refusal(path: Path) -> str:
    with pytest.raises(PrivateFileError) as refused:
        read_private(path)
    said = str(refused.value)
    assert "s3cr3t" not in said
    assert "\n" not in said
    return said


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_what_is_its_owners_alone_is_read(path: Path, mode: int) -> None:
    path.chmod(mode)
    assert read_private(path) == "s3cr3t"
    assert not is_open_to_others(path)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o644])
def test_sec_64_what_others_may_use_is_refused(path: Path, mode: int) -> None:
    path.chmod(mode)
    assert refusal(path) == f"{path} is open to others than its owner; run: chmod 600 {path}"
    assert is_open_to_others(path)


def test_what_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe", 0o600)
    assert refusal(tmp_path / "pipe").endswith("is not a file")
    assert refusal(tmp_path).endswith("Is a directory")
    assert "No such file" in refusal(tmp_path / "nowhere")


def test_what_is_no_text_is_refused(path: Path) -> None:
    path.write_bytes(b"s3cr3t\xff")
    assert refusal(path).endswith("it is not UTF-8")
