"""What a worker holds, and whether it still answers, while many large uploads wait for a slow
store.

Sixteen uploads at once go into a sink that takes 20 MB/s of all of them together, for a while;
then they are cut. Exit code 1: a bar does not hold.
"""

import argparse
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bars import Bar, at_most, only_reported, save, show_table
from tidegate.bench.answers import BenchError, Head
from tidegate.bench.driver import Connection, Target
from tidegate.bench.payload import Payload
from tidegate.bench.processes import Running, gateway, s3_store, sink
from tidegate.settings import Uploads, parse_size

MIB = 2**20
OVERHEAD = 60
"""MiB that a worker may hold beyond what it holds at rest and its budget."""

ASK_EVERY = 0.02
"""Seconds between two questions whether the worker lives."""


class Upload:
    """One upload, on a thread and a connection of its own, until it is cut."""

    def __init__(self, target: Target, payload: Payload, size: int) -> None:
        with Connection(target) as connection:
            record = {"disk_format": "raw", "container_format": "bare"}
            image = connection.ask("POST", "/v2/images", record).json
        self._socket = target.connect()
        self._head = target.head(
            "PUT", f"/v2/images/{image['id']}/file",
            {"Content-Type": "application/octet-stream"}, size,
        )  # fmt: skip
        self._payload = payload
        self._size = size
        self._thread = threading.Thread(target=self._send)
        self._thread.start()

    def status(self) -> int | None:
        """Of an answer, if there is one already."""
        try:
            data = self._socket.recv(4096, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None
        except ConnectionResetError:
            data = b""
        head = Head.parse(data)
        return 0 if head is None else head.status  # 0: the connection was closed

    def cut(self) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()

    def _send(self) -> None:
        with suppress(OSError):
            self._socket.sendall(self._head)
            self._payload.send(self._socket, 0, self._size)


def watch(running: Running, uploads: int, size: int, seconds: float) -> dict[str, float]:
    """Memory in MiB, latencies in milliseconds, and how the uploads fared."""
    target = Target.parse(running.url)
    with Connection(target) as health:
        health.ask("GET", "/healthz")
        rest = {pid: memory.now for pid, memory in running.processes.memory().items()}
        running.processes.forget_peaks()
        with _uploading(target, uploads, size) as senders:
            latencies = sorted(_ask_for(health, seconds))
            statuses = [sender.status() for sender in senders]
            memory = running.processes.memory()
    workers = [pid for pid in running.workers if pid in rest]
    return {
        "rest": max(rest[pid] for pid in workers) / MIB,
        "peak": max(memory[pid].peak for pid in workers) / MIB,
        "beyond rest": max(memory[pid].peak - rest[pid] for pid in workers) / MIB,
        "lost workers": len(rest) - 1 - len([pid for pid in workers if pid in memory]),
        "refused": sum(status not in (None, 204) for status in statuses),
        "p99": latencies[int(0.99 * len(latencies))] * 1000,
        "max": latencies[-1] * 1000,
    }


@contextmanager
def _uploading(target: Target, count: int, size: int) -> Iterator[list[Upload]]:
    payload = Payload(size)
    senders: list[Upload] = []
    try:
        for _ in range(count):
            senders.append(Upload(target, payload, size))  # noqa: PERF401 (what was begun is cut)
        yield senders
    finally:
        for sender in senders:
            sender.cut()


def _ask_for(health: Connection, seconds: float) -> Iterator[float]:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        begun = time.perf_counter()
        health.ask("GET", "/healthz")
        yield time.perf_counter() - begun
        time.sleep(ASK_EVERY)


def bars(budget: int, found: dict[str, float]) -> list[Bar]:
    name = f"{budget // MIB} MiB:"
    beyond = found["beyond rest"] - budget / MIB
    return [
        at_most(130, f"{name} RSS at rest, MiB", found["rest"]),
        only_reported(f"{name} peak RSS, MiB", found["peak"]),
        at_most(OVERHEAD, f"{name} peak beyond rest and budget, MiB", beyond),
        at_most(0, f"{name} uploads refused or broken", found["refused"]),
        at_most(0, f"{name} workers lost", found["lost workers"]),
        at_most(100, f"{name} /healthz p99, ms", found["p99"]),
        at_most(100, f"{name} /healthz max, ms", found["max"]),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60, help="to watch each budget")
    parser.add_argument("--uploads", type=int, default=16)
    parser.add_argument("--size", default="1GiB", help="of each upload")
    parser.add_argument("--rate", default="20MB", help="bytes per second that the sink takes")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--budget", action="append", help="memory_budget; may be repeated")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE", help=".svg or .png")
    arguments = parser.parse_args()
    default = f"{Uploads().memory_budget}"
    results: list[Bar] = []
    for text in arguments.budget or (default, "64MiB"):
        budget, size = _bytes(text), _bytes(arguments.size)
        with (
            tempfile.TemporaryDirectory() as folder,
            sink(rate=arguments.rate, discard=True) as endpoint,
            gateway(
                Path(folder),
                [s3_store(endpoint)],
                workers=arguments.workers,
                sections={"uploads": {"memory_budget": budget}},
            ) as running,
        ):
            print(f"watching memory_budget {budget // MIB} MiB", file=sys.stderr)
            found = watch(running, arguments.uploads, size, arguments.seconds)
        results += bars(budget, found)
    show_table(results, f"{arguments.uploads} uploads at once, {arguments.rate}/s in all")
    save(results, {}, arguments.json, arguments.picture)
    return 0 if all(bar.holds for bar in results) else 1


def _bytes(text: str) -> int:
    size: Any = parse_size(text)
    assert isinstance(size, int)
    return size


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"memory.py: {error}")
