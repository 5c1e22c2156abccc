"""A gateway in processes of its own: ``tidegate serve`` or ``dev`` as it is installed."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.error import URLError
from urllib.request import urlopen

import aiohttp
import psutil
from tests.kit.command import COMMAND, environment, wait_for
from tests.kit.gateway import Gateway

from tidegate.children import die_with_parent
from tidegate.seaweedfs import free_ports

T = TypeVar("T")

# many processes import the same things: what one has compiled serves them all
_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}


class Server:
    """Runs while the context is entered, always on the same port. ``log`` is what all of its
    runs wrote; everything of it lies in ``folder``."""

    def __init__(self, folder: Path, *arguments: str, command: str = "serve") -> None:
        self.folder = folder
        self._arguments = (command, *arguments)
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        (self.port,) = free_ports(1)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    @property
    def events(self) -> list[dict[str, Any]]:
        """The lines of the log that are events."""
        return [json.loads(line) for line in self.log.splitlines() if line.startswith("{")]

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """Their process ids."""
        found = []
        with suppress(psutil.NoSuchProcess):
            for child in psutil.Process(self.pid).children():
                with suppress(psutil.NoSuchProcess):
                    if "tidegate.worker" in child.cmdline():
                        found.append(child.pid)
        return found

    @property
    def serving(self) -> list[int]:
        """Those that can be told to stop: they serve, or are about to."""
        return [pid for pid in self.workers if handles(pid, signal.SIGTERM)]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.running:
            self.kill()

    def launch(self, **environ: str) -> None:
        """Start it; ``answers`` says when it serves."""
        assert not self.running
        scratch = self.folder / "tmp"
        scratch.mkdir(exist_ok=True)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [COMMAND, *self._arguments, "--port", str(self.port)],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(TMPDIR=str(scratch), **_BYTECODE, **environ),
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def answers(self) -> bool:
        assert self.running, self.log
        with suppress(URLError, OSError), urlopen(f"{self.url}/healthz", timeout=5) as answer:
            return bool(answer.status == 200)
        return False

    def start(self, **environ: str) -> None:
        """Returns when it answers."""
        self.launch(**environ)
        wait_for(self.answers, "the gateway to answer", within=60)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, within: float = 60) -> int:
        """Until it has ended; its exit code."""
        assert self._process is not None
        return self._process.wait(within)

    def stop(self) -> int:
        self.terminate()
        return self.wait()

    def kill(self) -> None:
        """All of its processes at once, as when the machine dies (what has a session of its own,
        as a store of ``dev``, dies with its parent)."""
        os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def kill_supervisor(self) -> None:
        """That one alone."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()


class Remote(Gateway):
    """A gateway in another process, asked as one in this process is; has no app and no store."""

    __repr__ = object.__repr__

    def __init__(self, port: int, session: aiohttp.ClientSession) -> None:
        self.port = port
        self.session = session

    async def status(self, image_id: str) -> str:
        status: str = (await self.show(image_id))["status"]
        return status

    async def wait_for_status(self, image_id: str, *statuses: str, within: float = 30) -> str:
        async def reached() -> str | None:
            found = await self.status(image_id)
            return found if found in statuses else None

        return await until(reached, f"{image_id} to be {' or '.join(statuses)}", within)


@asynccontextmanager
async def client(**options: Any) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that sends each request once, on a connection of its own."""
    connector = aiohttp.TCPConnector(force_close=True, limit=0)
    async with aiohttp.ClientSession(
        connector=connector, auto_decompress=False, **options
    ) as session:
        session._retry_connection = False  # as aiohttp's own test client has it
        yield session


async def until(look: Callable[[], Awaitable[T | None]], what: str, within: float = 30) -> T:
    """What ``look`` finds, as soon as that is something true."""
    deadline = time.monotonic() + within
    while not (found := await look()):
        assert time.monotonic() < deadline, f"waited {within:g} s for {what}"
        await asyncio.sleep(0.05)
    return found


def handles(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
            name, _, mask = line.partition(":")
            if name == "SigCgt":
                return bool(int(mask, 16) >> (number - 1) & 1)
    return False


def gone(pid: int) -> bool:
    """Whether a process has ended, be it buried or not."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def configure(folder: Path, stores: list[dict[str, Any]], **sections: Mapping[str, Any]) -> Path:
    """A configuration file with a catalog in ``folder``."""
    lines = []
    for name, section in {
        "catalog": {"url": f"sqlite:///{folder / 'tidegate.db'}"},
        **sections,
    }.items():
        lines += [f"[{name}]", *_pairs(section), ""]
    for store in stores:
        lines += ["[[stores]]", *_pairs(store), ""]
    path = folder / "tidegate.toml"
    path.touch(0o600)
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _pairs(section: Mapping[str, Any]) -> list[str]:
    return [f"{name} = {json.dumps(value)}" for name, value in section.items()]
