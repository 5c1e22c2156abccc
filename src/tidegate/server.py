"""The supervisor: one listening socket, several workers on it, and none of them missing for long.

It holds no part of the gateway itself. A worker that dies is replaced; SIGTERM or SIGINT makes all
of them drain, a second one ends them at once; if the supervisor dies, so do they.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from tidegate.children import die_with_parent
from tidegate.settings import Settings

CANNOT_START = 3
"""What a worker exits with when it has said why it cannot serve."""

START_WITHIN = 60.0
"""Seconds for a first worker to serve."""

STOP_AFTER_DRAIN = 20.0
"""Seconds beyond the drain until a worker that still runs is killed."""

RESTART_EVERY = 1.0
"""Seconds between two starts of a worker that cannot start."""

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


class StartError(Exception):
    """Why the server does not start, in one line; empty where a worker has said it."""


class Supervisor:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._input = dump(settings)
        self._count = settings.server.workers or os.cpu_count() or 1
        self._listener = listen(settings.server.host, settings.server.port)
        self._workers: dict[int, subprocess.Popen[bytes]] = {}
        self._metrics = tempfile.mkdtemp(prefix="tidegate-metrics-")

    @property
    def port(self) -> int:
        found: int = self._listener.getsockname()[1]
        return found

    def start(self) -> None:
        """Returns when the first worker serves. StartError."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        out, into = os.pipe()
        try:
            first = self._spawn(into)
            os.close(into)
            served = os.read(out, 1)  # empty: it died
        finally:
            os.close(out)
        if not served:
            code = first.wait()
            del self._workers[first.pid]
            raise StartError("" if code == CANNOT_START else f"a worker died at its start ({code})")
        for _ in range(self._count - 1):
            self._spawn()

    def run(self) -> int:
        """Until told to stop; the exit code."""
        while True:
            got = signal.sigwait(_SIGNALS)
            if got == signal.SIGCHLD:
                self._replace()
            else:
                return self._stop()

    def close(self) -> None:
        for worker in self._workers.values():
            worker.kill()
        for worker in self._workers.values():
            worker.wait()
        self._listener.close()
        shutil.rmtree(self._metrics, ignore_errors=True)

    def _spawn(self, tell: int | None = None) -> subprocess.Popen[bytes]:
        nobody = os.open(os.devnull, os.O_WRONLY) if tell is None else -1
        told = nobody if tell is None else tell
        worker = subprocess.Popen(
            [sys.executable, "-m", "tidegate.worker", str(self._listener.fileno()), str(told)],
            stdin=subprocess.PIPE,
            pass_fds=(self._listener.fileno(), told),
            env={**os.environ, "PROMETHEUS_MULTIPROC_DIR": self._metrics},
            preexec_fn=_belong_to_parent,
        )
        if nobody >= 0:
            os.close(nobody)
        assert worker.stdin is not None
        with suppress(BrokenPipeError):
            worker.stdin.write(self._input)
            worker.stdin.close()
        self._workers[worker.pid] = worker
        return worker

    def _replace(self) -> None:
        for pid, worker in list(self._workers.items()):
            code = worker.poll()
            if code is None:
                continue
            del self._workers[pid]
            self._forget_gauges(pid)
            say(f"worker {pid} ended ({code}); another one takes its place")
            if code == CANNOT_START:
                time.sleep(RESTART_EVERY)
            self._spawn()

    def _stop(self) -> int:
        for worker in self._workers.values():
            worker.terminate()
        # of all copies of the socket: who connects now is refused, not kept waiting
        self._listener.shutdown(socket.SHUT_RD)
        self._listener.close()
        deadline = time.monotonic() + self._settings.server.drain_timeout + STOP_AFTER_DRAIN
        while any(worker.poll() is None for worker in self._workers.values()):
            left = deadline - time.monotonic()
            got = signal.sigtimedwait(_SIGNALS, max(0.0, left))
            if got is None or got.si_signo != signal.SIGCHLD:
                return 1  # out of time, or told again: what is left is killed
        # one that was still starting does as the signal says
        codes = {abs(worker.returncode) for worker in self._workers.values()} - {signal.SIGTERM}
        return max(codes, default=0)

    def _forget_gauges(self, pid: int) -> None:
        """What a dead worker holds is no longer held; its counts remain."""
        for path in Path(self._metrics).glob(f"gauge_live*_{pid}.db"):
            path.unlink(missing_ok=True)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. StartError: port in use, no such address."""
    with ExitStack() as stack:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, address = found[0]
            listener = stack.enter_context(socket.socket(family, kind, protocol))
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(1024)
        except OSError as error:
            said = error.strerror or error
            raise StartError(f"cannot listen on {host}:{port}: {said}") from error
        stack.pop_all()
    return listener


def dump(settings: Settings) -> bytes:
    """All settings as JSON, secrets in clear: for a pipe, never for a file or a log."""
    return settings.model_dump_json(context={"secrets": True}).encode()


def say(line: str) -> None:
    with suppress(OSError):  # nobody listens, or the disk is full: no reason to stop
        sys.stderr.write(f"tidegate: {line}\n")
        sys.stderr.flush()


def _belong_to_parent() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    die_with_parent()
