"""The log as it is written: one line an entry, whatever a client sent."""

import json
import os
import pty
import subprocess
import sys

import pytest

from tidegate.telemetry import redacted

EVIL = 'a\n{"event": "forged"}\r\nb\x1b[31mred\x9b31m\u2028\u202e%0a"\\'
WRITE = (
    "import json, sys; from tidegate import telemetry; telemetry.configure_logging();"
    "telemetry.log.info('request', path=json.loads(sys.argv[1]))"
)


def written(text: str, *, terminal: bool) -> bytes:
    """What standard error holds of one entry."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    try:
        command = [sys.executable, "-c", WRITE, json.dumps(text)]
        subprocess.run(command, stderr=theirs, check=True, timeout=60)
        return os.read(ours, 65536)
    finally:
        os.close(ours)
        os.close(theirs)


def test_s41_an_entry_is_one_line_of_json() -> None:
    line = written(EVIL, terminal=False)
    assert line.count(b"\n") == 1
    assert b"\x1b" not in line
    assert json.loads(line)["path"] == EVIL
    assert json.loads(line)["event"] == "request"


@pytest.mark.parametrize("text", [EVIL, "\x1b]0;title\x07", "\x1b[2J", "a\x08\x08b"])
def test_s41_a_terminal_is_told_nothing_by_a_client(text: str) -> None:
    line = written(text, terminal=True)
    assert line.count(b"\n") == 1
    shown = line.partition(b"path")[2]
    # what colours the key ends before the value, and what colours the value is ours
    for control in (b"\x1b[31mred", b"\x1b]0", b"\x1b[2J", b"\x08", b"\x07", "\x9b".encode(),
                    "\u202e".encode(), "\u2028".encode()):  # fmt: skip
        assert control not in shown


@pytest.mark.parametrize(
    "text",
    [
        "gAAAAABks3cr3t-s3cr3t-s3cr3t-s3cr3t",
        "Could not find token: gAAAAABks3cr3ts3cr3ts3cr3t.",
        "/v2/images/tg_s3cr3ts3cr3ts3cr3ts3cr3ts3cr3ts3cr3t/file",
        "https://s3.example/b/k?X-Amz-Credential=s3cr3t%2F&X-Amz-Signature=s3cr3t&x=1",
        "X-Amz-Security-Token=s3cr3t",
        "http://user:s3cr3t@host.example/x",
        "s3://key:s3cr3t@host/bucket",
        "{'X-Auth-Token': 's3cr3t', 'x': 1}",
        '{"X-Service-Token": "s3cr3t"}',
        "x-subject-token: s3cr3t",
        "Authorization: Bearer s3cr3t",
        "AKIAS3CR3TS3CR3TS3CR",
        "Cookie=s3cr3t",
    ],
)
def test_sec_60_what_looks_like_a_secret_is_not_written(text: str) -> None:
    entry = json.dumps({"event": "request", "error": text, "status": 404}).encode()
    line = redacted(entry)
    assert b"s3cr3t" not in line.lower()
    assert b"***" in line
    assert line.startswith(b'{"event": "request", "error": "')


@pytest.mark.parametrize(
    "text",
    [
        "http://host.example:80/x@y", "req-00000000-0000-4000-8000-000000000001", "token ci-1",
        "no token was sent", "tg_", "postgresql://user@host/db",
    ],
)  # fmt: skip
def test_what_is_none_stays(text: str) -> None:
    entry = json.dumps({"event": text, "token": "ci-1"}).encode()
    assert redacted(entry) == entry


def test_sec_60_the_log_and_its_traces_are_written_so() -> None:
    for terminal in (False, True):
        line = written("gAAAAABks3cr3t-s3cr3t-s3cr3t-s3cr3t", terminal=terminal)
        assert b"***" in line
        assert b"s3cr3t" not in line
