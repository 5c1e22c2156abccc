"""What the read cache saves, and what filling it costs.

Gateways of one worker each before one SeaweedFS: one without a cache, one with it. Downloads of the
first, of copies that are there, and of copies that are to be made, in turn, round after round.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from tidegate.bench.driver import Connection, Target
from tidegate.bench.figures import Figure
from tidegate.bench.payload import Payload
from tidegate.bench.processes import gateway, storage
from tidegate.bench.scenarios import MIB, Bench, Load

LOADS = (Load(1, 512 * MIB, 1), Load(4, 64 * MIB, 4), Load(100, MIB, 8))


def clear(connection: Connection) -> None:
    assert connection.ask("DELETE", "/v2/cache").status == 204


def wait_for_copies(connection: Connection, ids: Sequence[str]) -> None:
    """Not all of many at once are copied by their downloads."""
    for image_id in ids:
        assert connection.ask("PUT", f"/v2/cache/{image_id}").status == 202
    while len(connection.ask("GET", "/v2/cache").json["cached_images"]) < len(ids):
        time.sleep(0.05)


def measure(verify: bool, rounds: int, folder: Path) -> None:
    payload = Payload(256 * MIB)
    with ExitStack() as stack:
        stores = stack.enter_context(storage("seaweedfs", folder))
        benches, targets = {}, {}
        for name in ("without", "with"):
            (folder / name).mkdir()
            running = stack.enter_context(
                gateway(
                    folder / name,
                    [{**stores[0], "bucket": f"images-{name}"}],
                    sections={
                        "downloads": {"verify": verify},
                        "cache": {
                            "enabled": name == "with",
                            "path": str(folder / name / "cache"),
                        },
                    },
                )
            )
            targets[name] = Target.parse(running.url)
            benches[name] = Bench(targets[name], running.processes, payload=payload)
        asking = stack.enter_context(Connection(targets["with"]))
        for load in LOADS:
            found: dict[str, list[Figure]] = defaultdict(list)
            with benches["without"].filled(load) as plain, benches["with"].filled(load) as ids:
                for _ in range(rounds):
                    found["no cache"].append(benches["without"].download("", load, plain))
                    clear(asking)
                    found["fill"].append(benches["with"].download("", load, ids))
                    wait_for_copies(asking, ids)
                    found["hit"].append(benches["with"].download("", load, ids))
                clear(asking)
            show(f"{load.count} x {load.size // MIB} MiB, verify = {verify}", found)


def show(title: str, found: dict[str, list[Figure]]) -> None:
    rates = {
        name: statistics.median(one.megabytes_per_second or 0.0 for one in figures)
        for name, figures in found.items()
    }
    costs = {
        name: statistics.median(one.cpu_per_gib or 0.0 for one in figures)
        for name, figures in found.items()
    }
    print(title)
    for name in found:
        print(
            f"  {name:9} {rates[name]:7.0f} MB/s ({rates[name] / rates['no cache']:.2f} x)"
            f"  {costs[name]:.2f} CPU s/GiB ({costs[name] / costs['no cache']:.2f} x)"
        )
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for verify in (True, False):
        with tempfile.TemporaryDirectory(prefix="tidegate-cache-") as folder:
            measure(verify, rounds, Path(folder))


if __name__ == "__main__":
    main()
