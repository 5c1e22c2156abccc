"""``tidegate check``: what a store is really able to do, and nothing left behind."""

import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.kit.stores import FaultyStore, objects, unfinished
from tests.stores.test_contract import s3_settings

from tidegate import check
from tidegate.check import probe_all
from tidegate.cli import main
from tidegate.domain.errors import NotCopied, ObjectMissing, StoreBroke, StoreDown
from tidegate.seaweedfs import SeaweedFS
from tidegate.settings import FilesystemStore, HttpStore, S3Store, Settings
from tidegate.stores import s3
from tidegate.stores.filesystem import FilesystemStore as Files
from tidegate.stores.memory import MemoryStore

REQUIRED = [
    "put, look, read",
    "multipart",
    "abort",
    "lists unfinished uploads",
    "ranges",
    "deletes",
]
OPTIONAL = [
    "verifies parts on arrival",
    "pins a version (If-Match)",
    "whole-object CRC-64/NVME",
    "copies its own objects",
]


def settings(*stores: FilesystemStore | HttpStore | S3Store) -> Settings:
    return Settings(stores=stores)


# real stores


async def test_seaweedfs_can_do_everything(seaweedfs: SeaweedFS) -> None:
    one = s3_settings(seaweedfs.endpoint, seaweedfs.access_key, seaweedfs.secret_key)
    (probe,) = await probe_all(settings(one))
    assert probe.usable
    assert set(probe.results) == {"reachable", *REQUIRED, *OPTIONAL}
    assert set(probe.results.values()) == {"yes"}
    store = s3.S3Store(one)
    await store.open()
    assert await objects(store) == {}
    assert await unfinished(store) == []
    await store.close()


async def test_moto_verifies_nothing_and_is_usable(moto: str) -> None:
    (probe,) = await probe_all(settings(s3_settings(moto, part_checksum="none")))
    assert probe.usable
    assert [probe.results[name] for name in REQUIRED] == ["yes"] * len(REQUIRED)
    assert probe.results["verifies parts on arrival"] == "no: damaged bytes were accepted"
    assert "another version was copied" in probe.results["copies its own objects"]


async def test_a_folder_is_usable_and_left_empty(tmp_path: Path) -> None:
    one = FilesystemStore(path=tmp_path / "images")
    (probe,) = await probe_all(settings(one))
    assert probe.usable
    assert [probe.results[name] for name in REQUIRED] == ["yes"] * len(REQUIRED)
    store = Files(one)
    await store.open()
    assert await objects(store) == {}
    assert await unfinished(store) == []
    await store.close()
    assert [path.name for path in (tmp_path / "images").iterdir()] == [".unfinished"]


async def test_registered_urls_are_only_read(tmp_path: Path) -> None:
    found = await probe_all(settings(FilesystemStore(path=tmp_path), HttpStore(type="http")))
    assert found[1].as_dict() == {
        "store": "http", "type": "http", "usable": True,
        "results": {"reachable": "yes", "reads only": "yes"},
    }  # fmt: skip


async def test_one_that_does_not_answer_does_not_hide_the_others(tmp_path: Path) -> None:
    down = s3_settings("http://127.0.0.1:1", attempts=1)
    found = await probe_all(settings(down, FilesystemStore(path=tmp_path / "images")))
    assert [probe.usable for probe in found] == [False, True]
    assert "no answer" in found[0].results["reachable"]


# a store that lacks something

Call = Callable[..., Awaitable[Any]]


@pytest.fixture
def faulty(monkeypatch: pytest.MonkeyPatch) -> FaultyStore:
    store = FaultyStore(MemoryStore())
    monkeypatch.setattr(check, "open_store", lambda *_: store)
    return store


@pytest.mark.parametrize(
    ("call", "lacks"),
    [("put", "put, look, read"), ("begin", "multipart"), ("complete", "multipart"),
     ("abort", "abort"), ("look", "put, look, read"), ("read", "ranges")],
)  # fmt: skip
async def test_what_is_needed_and_missing_is_named_and_unusable(
    faulty: FaultyStore, call: str, lacks: str
) -> None:
    faulty.fail(call, StoreBroke("memory", "it answered 501"))
    (probe,) = await probe_all(Settings())
    assert not probe.usable
    assert probe.results[lacks] == "no: it answered 501"


async def test_a_store_that_does_not_copy_is_usable(faulty: FaultyStore) -> None:
    faulty.fail("copy_part", NotCopied("memory", "it does not copy: it answered 501"))
    (probe,) = await probe_all(Settings())
    assert probe.usable
    assert probe.results["copies its own objects"] == "no: it does not copy: it answered 501"
    assert await objects(faulty) == {}
    assert await unfinished(faulty) == []


async def test_a_store_that_is_not_to_copy_is_not_asked(seaweedfs: SeaweedFS) -> None:
    one = s3_settings(
        seaweedfs.endpoint, seaweedfs.access_key, seaweedfs.secret_key, copy_parts=False
    )
    (probe,) = await probe_all(settings(one))
    assert probe.results["copies its own objects"] == "no: copy_parts is off"


async def test_a_store_that_cannot_delete_is_told_and_the_rest_is_tried(
    faulty: FaultyStore,
) -> None:
    faulty.fail("delete", StoreDown("memory", "it answered 403"))
    (probe,) = await probe_all(Settings())
    assert not probe.usable
    assert probe.results["deletes"] == "no: it answered 403"
    assert set(probe.results) == {"reachable", *REQUIRED, *OPTIONAL}


async def test_a_store_that_does_not_keep_what_it_took_is_told(faulty: FaultyStore) -> None:
    faulty.fail("read", ObjectMissing("memory", "no such object"))
    (probe,) = await probe_all(Settings())
    assert not probe.usable


# the command


def command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["tidegate", "check", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, capfd.readouterr().out


def config(folder: Path, endpoint: str = "") -> str:
    lines = ['[[stores]]\ntype = "filesystem"\n', f'path = "{folder}/images"\n']
    if endpoint:
        lines.append('[[stores]]\ntype = "s3"\nid = "far"\nbucket = "images"\nattempts = 1\n')
        lines.append(f'access_key = "k"\nsecret_key = "s3cr3t"\nendpoint = "{endpoint}"\n')
    path = folder / "tidegate.toml"
    path.write_text("".join(lines), encoding="utf-8")
    return str(path)


def test_all_usable_is_0_and_json_is_for_machines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, out = command(monkeypatch, capfd, "--json", "--config", config(tmp_path))
    assert code == 0
    (probe,) = json.loads(out)
    assert (probe["store"], probe["type"], probe["usable"]) == ("local", "filesystem", True)
    assert probe["results"]["multipart"] == "yes"


def test_one_unusable_is_1_and_both_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = config(tmp_path, "http://127.0.0.1:1")
    code, out = command(monkeypatch, capfd, "--config", path)
    assert code == 1
    assert "store local (filesystem)" in out
    assert "store far (s3)" in out
    assert "no answer" in out
    assert "s3cr3t" not in out
