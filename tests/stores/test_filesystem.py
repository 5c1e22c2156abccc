"""What is special about files: links, odd keys, full disks, and what is durable when."""

import asyncio
import errno
import os
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.kit.stores import objects, part_of, read_all, unfinished

from tidegate.domain.errors import (
    ObjectChanged,
    ObjectMissing,
    StoreBroke,
    StoreDown,
    StoreError,
    StoreFull,
    StoreReadOnly,
)
from tidegate.settings import FilesystemStore as Settings
from tidegate.stores import filesystem
from tidegate.stores.filesystem import FilesystemStore

KEY = "image/attempt"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[FilesystemStore]:
    store = FilesystemStore(Settings(path=root))
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """A file beside the store, that nobody may read, change or remove."""
    path = tmp_path / "canary"
    path.write_bytes(b"secret")
    return path


# keys


ODD = [
    "", "/", "a", "a/", "/b", "a/b/c", "../canary", "a/..", "../../etc/passwd", "./b", "a/.",
    "a//b", ".unfinished/x", "a/b\0", "a/b\n", "a/é", "a/b c", "a/" + "x" * 65, "x" * 65 + "/b",
    "~/b", "a/b.", "a\\b", "%2e%2e/canary", "a/b+c",
    ".a/b", "a/.b", "a./b", "a..b/c", "a/b..c", "a/...", ".../b",
]  # fmt: skip


@pytest.mark.parametrize("key", ODD)
async def test_an_odd_key_names_nothing(store: FilesystemStore, key: str, canary: Path) -> None:
    with pytest.raises(ObjectMissing):
        await store.look(key)
    with pytest.raises(ObjectMissing):
        await read_all(store, key)
    with pytest.raises(StoreError):
        await store.put(key, part_of(b"x"))
    with pytest.raises(StoreError):
        await store.begin(key)
    for undo in (store.delete(key), store.abort(key, "0" * 32)):
        try:
            await undo
        except ObjectMissing:
            continue
    assert await objects(store) == {}
    assert canary.read_bytes() == b"secret"


@pytest.mark.parametrize("upload_id", ["", "..", "../x", "a/b", "x" * 65, "a+b", "*"])
async def test_an_odd_upload_id_aborts_nothing(store: FilesystemStore, upload_id: str) -> None:
    writing = await store.begin(KEY)
    await store.abort(KEY, upload_id)
    assert await unfinished(store) == [(KEY, writing.upload_id)]


# links and special files (SEC-02)


async def test_sec_02_a_link_in_place_of_an_object_is_not_followed(
    store: FilesystemStore, root: Path, canary: Path
) -> None:
    (root / "image").mkdir()
    (root / KEY).symlink_to(canary)
    with pytest.raises(StoreError):
        await read_all(store, KEY)
    with pytest.raises(StoreError):
        await store.look(KEY)
    assert await objects(store) == {}
    await store.delete(KEY)
    assert canary.read_bytes() == b"secret"


async def test_sec_02_a_link_in_place_of_a_folder_is_not_followed(
    store: FilesystemStore, root: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "attempt").write_bytes(b"secret")
    (root / "image").symlink_to(outside)
    with pytest.raises(StoreError):
        await read_all(store, KEY)
    with pytest.raises(StoreError):
        await store.put("image/other", part_of(b"x"))
    with pytest.raises(StoreError):
        await store.delete(KEY)
    assert os.listdir(outside) == ["attempt"]
    assert (outside / "attempt").read_bytes() == b"secret"


async def test_a_link_among_the_folders_hides_no_object(
    store: FilesystemStore, root: Path, tmp_path: Path
) -> None:
    await store.put(KEY, part_of(b"x"))
    (root / "a-link").symlink_to(tmp_path)
    (root / "a-file").write_bytes(b"")
    assert await objects(store) == {KEY: 1}


async def test_sec_02_a_link_in_place_of_an_upload_is_not_written_through(
    store: FilesystemStore, root: Path, canary: Path
) -> None:
    writing = await store.begin(KEY)
    (temporary,) = (root / ".unfinished").iterdir()
    temporary.unlink()
    temporary.symlink_to(canary)
    with pytest.raises(StoreError):
        await writing.put_part(part_of(b"overwritten"))
    assert canary.read_bytes() == b"secret"


@pytest.mark.parametrize("kind", ["fifo", "folder"])
async def test_what_is_no_regular_file_is_no_object(
    store: FilesystemStore, root: Path, kind: str
) -> None:
    (root / "image").mkdir()
    if kind == "fifo":
        os.mkfifo(root / KEY)
    else:
        (root / KEY).mkdir()
    with pytest.raises(StoreBroke):
        await read_all(store, KEY)
    assert await objects(store) == {}


async def test_the_folder_moved_away_is_still_the_one_that_was_opened(
    store: FilesystemStore, root: Path, tmp_path: Path
) -> None:
    await store.put(KEY, part_of(b"x"))
    root.rename(tmp_path / "moved")
    root.symlink_to("/etc")
    assert await read_all(store, KEY) == b"x"


async def test_nobody_else_may_read(store: FilesystemStore, root: Path) -> None:
    await store.put(KEY, part_of(b"x"))
    for path in (root, root / "image", root / ".unfinished", root / KEY):
        assert path.stat().st_mode & 0o077 == 0


# trouble with the disk


def failing(monkeypatch: pytest.MonkeyPatch, call: str, code: int, after: int = 0) -> None:
    """``os.call`` works ``after`` times and then fails for good."""
    real, left = getattr(os, call), after

    def fail(*args: Any, **options: Any) -> Any:
        nonlocal left
        if left > 0:
            left -= 1
            return real(*args, **options)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(filesystem.os, call, fail)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("call", ["pwrite", "fsync", "link"])
async def test_a_full_disk_is_told_and_leaves_nothing(
    store: FilesystemStore, root: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, call, code)
        with pytest.raises(StoreFull, match="no room"):
            await store.put(KEY, part_of(b"x" * 1000))
    assert await objects(store) == {}
    assert await unfinished(store) == []
    await store.put(KEY, part_of(b"y"))  # once there is room again
    assert await read_all(store, KEY) == b"y"


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.EPERM])
async def test_a_disk_that_became_read_only_is_told(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with monkeypatch.context() as patch:
        failing(patch, "pwrite", code)
        with pytest.raises(StoreReadOnly):
            await store.put(KEY, part_of(b"x"))


async def test_a_disk_that_breaks_is_told(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.put(KEY, part_of(b"x"))
    with monkeypatch.context() as patch:
        failing(patch, "preadv", errno.EIO)
        with pytest.raises(StoreBroke):
            await read_all(store, KEY)


async def test_a_failed_fsync_is_never_followed_by_a_name(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = await store.begin(KEY)
    await writing.put_part(part_of(b"x"))
    with monkeypatch.context() as patch:
        failing(patch, "fsync", errno.EIO)
        with pytest.raises(StoreBroke):
            await writing.complete(1, None)
    with pytest.raises(ObjectMissing):
        await store.look(KEY)


async def test_an_object_is_on_the_disk_before_it_has_its_name(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []

    def watched(name: str) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(target: Any, *args: Any, **options: Any) -> Any:
            kind = ""
            if isinstance(target, int) and name == "fsync":
                kind = " folder" if os.path.isdir(f"/proc/self/fd/{target}") else " file"
            steps.append(name + kind)
            return real(target, *args, **options)

        return call

    writing = await store.begin(KEY)
    with monkeypatch.context() as patch:
        for name in ("pwrite", "fsync", "link", "unlink"):
            patch.setattr(filesystem.os, name, watched(name))
        await writing.put_part(part_of(b"x"))
        await writing.complete(1, None)
    assert steps == ["pwrite", "fsync file", "fsync folder", "link", "fsync folder", "unlink"]


# what is left behind


async def test_what_a_dead_process_left_is_listed_and_goes(root: Path) -> None:
    first = FilesystemStore(Settings(path=root))
    await first.open()
    writing = await first.begin(KEY)
    await writing.put_part(part_of(b"x" * 1000))
    await first.close()
    second = FilesystemStore(Settings(path=root))
    await second.open()
    ((key, upload_id),) = await unfinished(second)
    assert (key, upload_id) == (KEY, writing.upload_id)
    await second.abort(key, upload_id)
    assert list((root / ".unfinished").iterdir()) == []
    await second.close()


async def test_what_is_not_ours_is_neither_listed_nor_touched(
    store: FilesystemStore, root: Path
) -> None:
    (root / ".unfinished" / "a-note").write_text("not ours")
    (root / "README").write_text("not ours")
    assert await unfinished(store) == []
    assert await objects(store) == {}
    assert (root / ".unfinished" / "a-note").exists()


async def test_the_folder_of_an_image_goes_with_its_last_object(
    store: FilesystemStore, root: Path
) -> None:
    await store.put("image/one", part_of(b"1"))
    await store.put("image/two", part_of(b"2"))
    await store.delete("image/one")
    assert (root / "image").exists()
    await store.delete("image/two")
    assert not (root / "image").exists()


async def test_a_folder_removed_between_two_steps_is_made_again(
    store: FilesystemStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = await store.begin(KEY)
    await writing.put_part(part_of(b"x"))
    real, removed = os.open, []

    def removing(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if path == "image" and not removed:
            removed.append(path)
            os.rmdir(root / "image")  # another process deletes the last object in it
        return real(path, flags, *args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(filesystem.os, "open", removing)
        await writing.complete(1, None)
    assert removed
    assert await read_all(store, KEY) == b"x"


async def test_a_key_is_never_overwritten(store: FilesystemStore) -> None:
    await store.put(KEY, part_of(b"first"))
    with pytest.raises(StoreError):
        await store.put(KEY, part_of(b"second"))
    assert await read_all(store, KEY) == b"first"
    assert await unfinished(store) == []


# opening


@pytest.mark.parametrize("kind", ["file", "link", "below a file"])
async def test_a_place_that_is_no_folder_is_refused_in_one_line(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "images"
    (tmp_path / "file").write_bytes(b"")
    match kind:
        case "file":
            path = tmp_path / "file"
        case "link":
            path.symlink_to(tmp_path)
        case _:
            path = tmp_path / "file" / "images"
    store = FilesystemStore(Settings(path=path))
    with pytest.raises(StoreDown, match="cannot be used"):
        await store.open()
    await store.close()


async def test_opening_again_keeps_what_is_there(store: FilesystemStore, root: Path) -> None:
    where = f"{uuid4()}/{uuid4().hex}"
    await store.put(where, part_of(b"x"))
    again = FilesystemStore(Settings(path=root))
    await again.open()
    assert await objects(again) == {where: 1}
    await again.close()


async def test_a_ping_notices_that_the_folder_is_gone(store: FilesystemStore, root: Path) -> None:
    (root / ".unfinished").rmdir()
    with pytest.raises(StoreDown):
        await store.ping()


# what is there


@pytest.mark.parametrize("page", [1, 2, 7, 100])
async def test_a_folder_is_listed_in_pages_by_several_at_once(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch, page: int
) -> None:
    monkeypatch.setattr(filesystem, "_PAGE", page)
    expected = {f"{uuid4()}/object": size for size in range(1, 8)}
    for key, size in expected.items():
        await store.put(key, part_of(b"x" * size))
        await store.begin(key)
    assert await asyncio.gather(*(objects(store) for _ in range(4))) == [expected] * 4
    assert sorted(key for key, _ in await unfinished(store)) == sorted(expected)


async def test_the_folder_that_a_killed_delete_left_goes_with_the_next_try(
    store: FilesystemStore, root: Path
) -> None:
    await store.put("image/object", part_of(b"x"))
    (root / "image" / "object").unlink()
    await store.delete("image/object")
    assert not (root / "image").exists()


async def test_probes_of_killed_processes_go_at_the_next_start(
    store: FilesystemStore, root: Path
) -> None:
    old, young = (root / ".unfinished" / f"probe-{age}" for age in ("old", "young"))
    for probe in (old, young):
        probe.touch()
    os.utime(old, (1, 1))
    again = FilesystemStore(Settings(path=root))
    await again.open()
    await again.close()
    assert (old.exists(), young.exists()) == (False, True)


async def test_an_object_removed_while_its_folder_is_listed_hides_no_other(
    store: FilesystemStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        await store.put(f"image/{name}", part_of(b"x"))
    scan, gone = os.scandir, []

    def remove_first(fd: int) -> list[os.DirEntry[str]]:
        entries = list(scan(fd))
        if {entry.name for entry in entries} == set("abc"):
            gone.append(entries[0].name)
            (root / "image" / entries[0].name).unlink()
        return entries

    monkeypatch.setattr(os, "scandir", lambda fd: iter(remove_first(fd)))
    assert set(await objects(store)) == {f"image/{name}" for name in "abc" if name not in gone}
    assert len(gone) == 1


# copies


async def test_a_copy_that_is_cancelled_ends_with_the_slice_that_is_copied(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "_SLICE", 1000)
    real, begun, go_on = filesystem.copy_at, threading.Event(), threading.Event()
    copied: list[int] = []

    def copy_slowly(source: int, target: int, start: int, stop: int) -> int:
        begun.set()
        go_on.wait()
        copied.append(start)
        return real(source, target, start, stop)

    monkeypatch.setattr(filesystem, "copy_at", copy_slowly)
    await store.put(KEY, part_of(bytes(10_000)))
    writing = await store.begin("image/copy")
    copying = asyncio.ensure_future(writing.copy_part(1, KEY, 0, 10_000, etag=None))
    await asyncio.to_thread(begun.wait)
    copying.cancel()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert copied == [0]


async def test_a_copy_in_slices_is_whole(
    store: FilesystemStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(filesystem, "_SLICE", 1000)
    data = bytes(range(256)) * 40
    await store.put(KEY, part_of(data))
    writing = await store.begin("image/copy")
    await writing.copy_part(2, KEY, 4321, len(data), etag=None)
    await writing.copy_part(1, KEY, 0, 4321, etag=None)
    await writing.complete(len(data), None)
    assert await read_all(store, "image/copy") == data


async def test_a_source_that_became_shorter_is_another(store: FilesystemStore, root: Path) -> None:
    await store.put(KEY, part_of(bytes(1000)))
    writing = await store.begin("image/copy")
    os.truncate(root / KEY, 500)
    with pytest.raises(ObjectChanged):
        await writing.copy_part(1, KEY, 0, 1000, etag=None)
