"""The installed command, as a person or a script runs it."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil

T = TypeVar("T")

COMMAND = str(Path(sys.executable).parent / "tidegate")
_SERVING = re.compile(r"serving the Image API on (http://\S+)")
_PR_CAPBSET_DROP = 24
_FILE_MODE_CAPABILITIES = (1, 2)  # DAC_OVERRIDE, DAC_READ_SEARCH
_libc = ctypes.CDLL(None)


@dataclass(frozen=True)
class Outcome:
    code: int
    out: bytes
    err: str

    @property
    def line(self) -> str:
        """The one line that says what went wrong."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        return lines[0]


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would configure a gateway or a client, and without
    credentials that somebody may have around."""
    kept = {name: value for name, value in os.environ.items() if not _configures(name)}
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
               "AWS_CONFIG_FILE": os.devnull, "COLUMNS": "80"}  # fmt: skip
    return {**kept, **nowhere, **more}


def run(
    *arguments: str,
    folder: Path,
    given: bytes = b"",
    environ: Mapping[str, str] | None = None,
    modes_count: bool = False,
    within: float = 60,
) -> Outcome:
    """``modes_count``: the modes of files hold for this process even if it is root's."""
    done = subprocess.run(
        [COMMAND, *arguments],
        cwd=folder,
        input=given,
        capture_output=True,
        env=environment(**(environ or {})),
        timeout=within,
        preexec_fn=_obey_file_modes if modes_count else None,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr.decode())


@dataclass
class Serving:
    """A running ``tidegate serve``; ``log`` is what it wrote so far."""

    url: str
    process: subprocess.Popen[bytes]
    log: list[bytes]

    @property
    def workers(self) -> list[psutil.Process]:
        found: list[psutil.Process] = psutil.Process(self.process.pid).children()
        return found

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def ask(
        self, path: str, data: bytes | None = None, *, method: str | None = None, kind: str = ""
    ) -> tuple[int, bytes]:
        """Status and body."""
        headers = {"Content-Type": kind} if kind else {}
        request = Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urlopen(request, timeout=20) as response:
                return response.status, response.read()
        except HTTPError as refused:
            with refused:
                return refused.code, refused.read()


@contextmanager
def serving(folder: Path, *arguments: str, **environ: str) -> Iterator[Serving]:
    """A gateway on a free port, answering."""
    process = subprocess.Popen(
        [COMMAND, "serve", "--port", "0", *arguments],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment(**environ),
    )
    assert process.stderr is not None
    log: list[bytes] = []
    # through a pipe, whose writers no full disk and no limit of theirs can stop
    reader = threading.Thread(target=log.extend, args=(process.stderr,))
    reader.start()
    try:
        url = wait_for(lambda: _serving(log, process), "the gateway to serve")
        yield Serving(url, process, log)
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reader.join(15)
        process.stderr.close()


def wait_for(look: Callable[[], T | None], what: str, within: float = 20) -> T:
    """What ``look`` finds, as soon as that is something true."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError(f"waited {within:g} s for {what}")


def _serving(log: list[bytes], process: subprocess.Popen[bytes]) -> str | None:
    text = b"".join(log).decode()
    assert process.poll() is None, text
    found = _SERVING.search(text)
    return found[1] if found else None


def _configures(name: str) -> bool:
    return name.startswith(("TIDEGATE_", "AWS_", "OS_"))


def _obey_file_modes() -> None:
    for capability in _FILE_MODE_CAPABILITIES:
        _libc.prctl(_PR_CAPBSET_DROP, capability)
