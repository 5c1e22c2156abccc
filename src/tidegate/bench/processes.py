"""The processes of a measurement: the sink, and a whole gateway before a store of its own."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tidegate.bench.answers import BenchError
from tidegate.bench.usage import Processes
from tidegate.children import die_with_parent
from tidegate.dev import BUCKET
from tidegate.seaweedfs import SeaweedError, SeaweedFS

START_WITHIN = 60.0
STORES = ("sink", "seaweedfs", "filesystem")

_SERVING = re.compile(rb"serving the Image API on (http://\S+)")


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway that answers at ``url``; ``pid`` is its supervisor's."""

    url: str
    pid: int

    @property
    def processes(self) -> Processes:
        return Processes(self.pid)

    @property
    def workers(self) -> list[int]:
        return self.processes.all()[1:]


@contextmanager
def sink(*, rate: str | None = None, discard: bool = False) -> Iterator[str]:
    """The endpoint of a running sink. BenchError."""
    arguments = [sys.executable, "-m", "tidegate.bench.sink"]
    arguments += ["--discard"] if discard else []
    arguments += ["--rate", rate] if rate is not None else []
    with _process(arguments, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with process.stdout as out:
            port = out.readline().decode().strip()
        if not port:
            raise BenchError("the sink did not start")
        yield f"http://127.0.0.1:{port}"


@contextmanager
def gateway(
    folder: Path,
    stores: list[dict[str, Any]],
    *,
    workers: int = 1,
    sections: Mapping[str, Mapping[str, Any]] | None = None,
) -> Iterator[Running]:
    """A whole gateway on these stores; its catalog and log are in ``folder``, and the gateway
    trusts locations on loopback. BenchError."""
    tree: dict[str, Any] = {
        "server": {"port": 0, "workers": workers, "drain_timeout": "5s"},
        "catalog": {"url": f"sqlite:///{(folder / 'tidegate.db').absolute()}"},
        "locations": {"show": True},
        "fetch": {"allow": ["127.0.0.1"]},
        "stores": stores,
    }
    for section, values in (sections or {}).items():
        tree[section] = {**tree.get(section, {}), **values}
    config = folder / "tidegate.toml"
    config.write_text(_toml(tree), encoding="utf-8")
    environ = {name: value for name, value in os.environ.items() if not _configures(name)}
    log = folder / "tidegate.log"
    command = [sys.executable, "-m", "tidegate", "serve", "--config", str(config)]
    with (
        log.open("wb") as output,
        _process(command, stderr=output, cwd=folder, env=environ) as process,
    ):
        yield Running(_wait_for_url(process, log), process.pid)


@contextmanager
def storage(kind: str, folder: Path) -> Iterator[list[dict[str, Any]]]:
    """The configuration of a store of this kind, which is there meanwhile. BenchError."""
    match kind:
        case "sink":
            with sink() as endpoint:
                yield [s3_store(endpoint)]
        case "seaweedfs":
            try:
                with SeaweedFS(folder / "seaweedfs") as server:
                    yield [s3_store(server.endpoint, server.access_key, server.secret_key)]
            except SeaweedError as error:
                raise BenchError(str(error)) from error
        case "filesystem":
            yield [{"id": "main", "type": "filesystem", "path": str(folder / "images")}]
        case _:
            raise BenchError(f"{kind!r} is no store to measure with; known are {', '.join(STORES)}")


def s3_store(endpoint: str, access_key: str = "", secret_key: str = "") -> dict[str, Any]:
    return {
        "id": "main",
        "type": "s3",
        "endpoint": endpoint,
        "bucket": BUCKET,
        "create_bucket": True,
        "access_key": access_key or "anybody",
        "secret_key": secret_key or "anything",
    }


@contextmanager
def _process(command: list[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        preexec_fn=partial(die_with_parent, signal.SIGTERM),
        **options,
    )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_url(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_WITHIN
    while time.monotonic() < deadline:
        text = log.read_bytes()
        if found := _SERVING.search(text):
            return found[1].decode()
        if process.poll() is not None:
            lines = text.decode(errors="replace").strip().splitlines() or ["it says nothing"]
            raise BenchError(f"the gateway did not start: {lines[-1]}")
        time.sleep(0.02)
    raise BenchError(f"the gateway did not serve within {START_WITHIN:g} s")


def _toml(tree: Mapping[str, Any]) -> str:
    """Tables of plain values, and lists of such tables; JSON's scalars and lists are TOML's."""
    lines: list[str] = []
    for name, value in tree.items():
        several = isinstance(value, list)
        for table in value if several else [value]:
            lines.append(f"[[{name}]]" if several else f"[{name}]")
            lines += [
                f"{key} = {json.dumps(entry, ensure_ascii=False)}" for key, entry in table.items()
            ]
    return "\n".join(lines) + "\n"


def _configures(name: str) -> bool:
    return name.startswith("TIDEGATE_") and "__" in name
