"""What it saves that a store copies a clone's bytes.

A gateway of one worker before a store. Clones of two images of the same bytes, in turn, round after
round: one that the store copies, and one whose CRC the catalog has forgotten, so that it is sent.
"""

import argparse
import sqlite3
import statistics
import tempfile
import time
from collections import defaultdict
from contextlib import ExitStack, closing
from pathlib import Path

from tidegate.bench.driver import Connection, Target
from tidegate.bench.payload import Payload
from tidegate.bench.processes import gateway, storage
from tidegate.bench.scenarios import MIB, Bench, Load
from tidegate.bench.usage import Processes

LOAD = Load(2, 1024 * MIB, 1)


def clone(connection: Connection, image_id: str, processes: Processes) -> tuple[float, float]:
    """Seconds that it took, and the gateway's CPU seconds."""
    body = {"type": "clone", "input": {"image_id": image_id}}
    cpu, begun = processes.cpu(), time.monotonic()
    task = connection.ask("POST", "/v2/tasks", body).json
    while task["status"] in ("pending", "processing"):
        time.sleep(0.2)  # asking costs as well
        task = connection.ask("GET", f"/v2/tasks/{task['id']}").json
    seconds, spent = time.monotonic() - begun, processes.cpu() - cpu
    assert task["status"] == "success", task["message"]
    assert connection.ask("DELETE", f"/v2/images/{task['result']['image_id']}").status == 204
    return seconds, spent


def measure(kind: str, rounds: int, folder: Path) -> None:
    with ExitStack() as stack:
        stores = stack.enter_context(storage(kind, folder))
        running = stack.enter_context(gateway(folder, stores))
        target = Target.parse(running.url)
        bench = Bench(target, running.processes, payload=Payload(256 * MIB))
        connection = stack.enter_context(Connection(target))
        copied, sent = stack.enter_context(bench.filled(LOAD))
        with closing(sqlite3.connect(folder / "tidegate.db")) as catalog, catalog:
            catalog.execute("UPDATE images SET crc64nvme = NULL WHERE id = ?", (sent,))
        found: dict[str, list[tuple[float, float]]] = defaultdict(list)
        for _ in range(rounds):
            found["sent"].append(clone(connection, sent, running.processes))
            found["copied"].append(clone(connection, copied, running.processes))
    print(f"{kind}: a clone of {LOAD.size // MIB} MiB")
    for name, figures in found.items():
        seconds, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
        every = ", ".join(f"{one:.2f} s ({spent:.2f} s CPU)" for one, spent in figures)
        print(f"  {name:6} {seconds:6.2f} s, {cpu:5.2f} s CPU: {every}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for kind in ("seaweedfs", "filesystem"):
        with tempfile.TemporaryDirectory(prefix="tidegate-clones-") as folder:
            measure(kind, rounds, Path(folder))


if __name__ == "__main__":
    main()
