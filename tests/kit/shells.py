"""``openstack`` and ``glance``, as a person uses them, without the seconds that they take to start.

Nearly all of the time of such a command goes into importing. So commands are forked from a process
that has done it once. Nothing else differs: it is the program's own ``main``, with arguments, an
environment, streams and an exit code of its own, and it speaks HTTP to a running gateway.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.kit import glance
from tests.kit.command import Outcome, environment
from tests.kit.server import Server

from tidegate.children import die_with_parent

PIPE = 60_000
"""What a pipe holds before anybody reads it."""


class Shells:
    """Commands run in ``folder``, while the context is entered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._asks, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._one_at_a_time = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", Path(__file__).with_name("shells_server.py"),
                 str(theirs.fileno())],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                env=environment(HOME=str(folder), COLUMNS="300", PYTHONDONTWRITEBYTECODE=""),
                pass_fds=[theirs.fileno()],
                preexec_fn=die_with_parent,
            )  # fmt: skip

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._asks.close()
        self._process.wait(20)

    def run(
        self, *command: str, given: bytes | None = None, environ: Mapping[str, str] | None = None
    ) -> Outcome:
        """``given`` comes through a pipe; None: standard input is a terminal."""
        message = json.dumps({"command": command, "environ": dict(environ or {})}).encode()
        other, stdin = os.openpty() if given is None else _pipe(given)
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            try:
                with self._one_at_a_time:
                    streams = [stdin, out.fileno(), err.fileno()]
                    socket.send_fds(self._asks, [message], streams)
                    code = int(self._asks.recv(20))
            finally:
                os.close(stdin)
                if other is not None:
                    os.close(other)
            out.seek(0)
            err.seek(0)
            return Outcome(code, out.read(), err.read().decode())


def _pipe(given: bytes) -> tuple[None, int]:
    """Its end to read from."""
    assert len(given) <= PIPE
    stdin, end = os.pipe()
    os.write(end, given)
    os.close(end)
    return None, stdin


class Openstack:
    """Called with these options and this environment."""

    def __init__(
        self, shells: Shells, *options: str, environ: Mapping[str, str] | None = None
    ) -> None:
        self._shells = shells
        self._options = options
        self._environ = environ

    def run(self, *arguments: str, given: bytes | None = None) -> Outcome:
        command = ("openstack", *self._options, *arguments)
        return self._shells.run(*command, given=given, environ=self._environ)

    def __call__(self, *arguments: str, given: bytes | None = None) -> bytes:
        """What it printed."""
        done = self.run(*arguments, given=given)
        assert done.code == 0, done.err
        return done.out

    def json(self, *arguments: str, given: bytes | None = None) -> Any:
        """What it showed."""
        return json.loads(self(*arguments, "-f", "json", given=given))

    def fails(self, *arguments: str, given: bytes | None = None) -> str:
        """What it complained of."""
        done = self.run(*arguments, given=given)
        assert done.code != 0, done.out
        return done.err


class Glance(glance.Glance):
    def __init__(
        self, shells: Shells, server: Server, *, token: str = "none",
        environ: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        """``environ`` says how to log in; else it is this token."""
        super().__init__(server, token=token)
        if environ is not None:
            self._options = []
        self._shells = shells
        self._environ = environ

    def outcome(self, *arguments: str, given: bytes | None = None) -> Outcome:
        command = ("glance", *self._options, *arguments)
        return self._shells.run(*command, given=given, environ=self._environ)

    def run(self, *arguments: str, fails: bool = False, given: bytes | None = None) -> str:
        done = self.outcome(*arguments, given=given)
        assert (done.code != 0) is fails, done.err + done.out.decode()
        return done.err if fails else done.out.decode()
