"""The transfer core and the catalog's hottest read, measured against their bare costs.

Everything is measured in turn, round after round, in one run on one machine, so that what the
machine does meanwhile falls on both sides of each ratio. Exit code 1: a bar does not hold.
"""

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bare import hash_alone, hash_in_two_threads
from bars import Bar, at_least, at_most, only_reported, save, show_table
from profiling import profile
from records import fill
from tidegate.bench.answers import Answer, BenchError
from tidegate.bench.driver import Connection, Target
from tidegate.bench.payload import Payload
from tidegate.bench.processes import Running, gateway, s3_store, sink
from tidegate.bench.scenarios import GIB, Bench, Load
from tidegate.bench.volley import ask_all
from tidegate.settings import parse_size

RESULTS = Path(__file__).with_name("results")

ASKING = 8
"""Connections that ask for images at a time."""

PROFILES = {
    "upload": ("default", False),
    "upload-without-digests": ("unhashed", False),
    "verified-download": ("default", True),
    "zero-copy-download": ("unverified", True),
    "file-download": ("files", True),
}
"""What can be profiled, beside ``show``: a gateway, and whether it sends."""

UNVERIFIED: dict[str, dict[str, Any]] = {"downloads": {"verify": False}}
UNHASHED: dict[str, dict[str, Any]] = {"uploads": {"digests": []}}


class Samples:
    """Values by name, one a round."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = {}

    def add(self, name: str, value: float | None) -> None:
        assert value is not None
        self._values.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        return statistics.median(self._values[name])

    def ratio(self, one: str, other: str) -> float:
        """The median of each round's own ratio."""
        pairs = zip(self._values[one], self._values[other], strict=True)
        return statistics.median(a / b for a, b in pairs)

    def as_dict(self) -> dict[str, list[float]]:
        return self._values


class Transfers:
    """Gateways of one worker each, that differ in one setting, before one sink and a folder."""

    def __init__(self, folder: Path, stack: ExitStack, size: int) -> None:
        self._payload = Payload(size)
        self._load = Load(1, size, 1)
        self._stack = stack
        endpoint = stack.enter_context(sink())
        local = {"id": "main", "type": "filesystem", "path": str(folder / "images")}
        started = {
            "default": ([s3_store(endpoint)], {}),
            "unhashed": ([s3_store(endpoint)], UNHASHED),
            "unverified": ([s3_store(endpoint)], UNVERIFIED),
            "files": ([local], UNVERIFIED),
        }
        self.benches: dict[str, Bench] = {}
        self._workers: dict[str, int] = {}
        self._ids: dict[str, list[str]] = {}
        for name, (stores, sections) in started.items():
            (folder / name).mkdir()
            running = stack.enter_context(gateway(folder / name, stores, sections=sections))
            target = Target.parse(running.url)
            self._workers[name] = running.workers[0]
            self.benches[name] = Bench(target, running.processes, payload=self._payload)
        for name in ("default", "unverified", "files"):
            self._ids[name] = stack.enter_context(self.benches[name].filled(self._load))

    def round(self, samples: Samples) -> None:
        size = self._load.size
        views = self._payload.views(0, size)
        samples.add("hashing CPU s/GiB", hash_alone(views) * GIB / size)
        for name, words in (("default", "upload"), ("unhashed", "upload without digests")):
            figure = self.benches[name].upload(words, self._load)
            samples.add(f"{words} CPU s/GiB", figure.cpu_per_gib)
            samples.add(f"{words} MB/s", figure.megabytes_per_second)
        samples.add("hashing in two threads MB/s", size / 1e6 / hash_in_two_threads(views))
        for name, words in (
            ("default", "verified download"),
            ("unverified", "zero-copy download"),
            ("files", "download of a file"),
        ):
            figure = self.benches[name].download(words, self._load, self._ids[name])
            samples.add(f"{words} CPU s/GiB", figure.cpu_per_gib)
            samples.add(f"{words} MB/s", figure.megabytes_per_second)

    def load(self, name: str, download: bool) -> tuple[int, Callable[[], object]]:
        """A worker, and what keeps it busy."""
        bench = self.benches[name]
        if download:
            return self._workers[name], lambda: bench.download(name, self._load, self._ids[name])
        return self._workers[name], lambda: bench.upload(name, self._load)


class Shows:
    """A gateway on a full catalog, and a bare handler that answers the same JSON."""

    def __init__(self, folder: Path, stack: ExitStack, images: int, requests: int) -> None:
        ids = fill(folder / "tidegate.db", images)
        local = {"id": "main", "type": "filesystem", "path": str(folder / "images")}
        self.running: Running = stack.enter_context(gateway(folder, [local]))
        self._gateway = Target.parse(self.running.url)
        with Connection(self._gateway) as connection:
            answer = connection.ask("GET", f"/v2/images/{ids[0]}")
        body = folder / "image.json"
        body.write_bytes(answer.body)
        self._bare = stack.enter_context(_bare_server(body))
        chosen = random.Random(4711)
        self._asked = [chosen.choice(ids) for _ in range(requests)]

    def round(self, samples: Samples) -> None:
        samples.add("bare handler requests/s", self._rate(self._bare))
        samples.add("show requests/s", self._rate(self._gateway))

    def ask(self) -> None:
        self._rate(self._gateway)

    def _rate(self, target: Target) -> float:
        messages = [target.message("GET", f"/v2/images/{one}") for one in self._asked]
        seconds = _timed(lambda: ask_all(target, messages, ASKING, _expect_image))
        return len(messages) / seconds


def bars(samples: Samples) -> list[Bar]:
    median, ratio = samples.median, samples.ratio
    return [
        at_most(1.4, "upload CPU ÷ hashing CPU", ratio("upload CPU s/GiB", "hashing CPU s/GiB")),
        at_most(0.9, "upload without digests, CPU s/GiB",
                median("upload without digests CPU s/GiB")),
        at_least(0.4, "upload rate ÷ rate of hashing in two threads",
                 ratio("upload MB/s", "hashing in two threads MB/s")),
        at_most(0.55, "verified download, CPU s/GiB", median("verified download CPU s/GiB")),
        at_least(0.35, "show rate ÷ bare handler's rate",
                 ratio("show requests/s", "bare handler requests/s")),
        *(only_reported(name, median(name)) for name in samples.as_dict()),
    ]  # fmt: skip


@contextmanager
def _bare_server(body: Path) -> Iterator[Target]:
    program = Path(__file__).with_name("bare.py")
    process = subprocess.Popen([sys.executable, program, body], stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        with process.stdout as out:
            port = out.readline().decode().strip()
        yield Target.parse(f"http://127.0.0.1:{port}")
    except BenchError:
        code = process.poll()
        if code is not None:
            raise BenchError(f"the bare handler ended by itself ({code})") from None
        raise
    finally:
        process.kill()
        process.wait()


def look_at(what: str, options: argparse.Namespace) -> None:
    """Load one worker with one thing, and show where its time goes."""
    RESULTS.mkdir(exist_ok=True)
    load: Callable[[], object]
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        if what == "show":
            shows = Shows(Path(name), stack, options.images, options.requests)
            worker, load = shows.running.workers[0], shows.ask
        else:
            transfers = Transfers(Path(name), stack, _bytes(options.size))
            worker, load = transfers.load(*PROFILES[what])
        profile(worker, options.seconds, RESULTS / what, load)


def _expect_image(number: int, answer: Answer) -> None:
    if answer.status != 200 or not answer.body.startswith(b"{"):
        raise BenchError(f"GET image was answered {answer.status}")


def _bytes(text: str) -> int:
    size = parse_size(text)
    assert isinstance(size, int)
    return size


def _timed(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="1GiB", help="of the image that is moved")
    parser.add_argument("--images", type=int, default=100_000, help="in the catalog")
    parser.add_argument("--requests", type=int, default=5000, help="for an image, a round")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--picture", type=Path, metavar="FILE", help=".svg or .png")
    parser.add_argument("--profile", choices=[*PROFILES, "show"], help="instead of measuring")
    parser.add_argument("--seconds", type=int, default=15, help="of a profile")
    arguments = parser.parse_args()
    if arguments.profile:
        look_at(arguments.profile, arguments)
        return 0
    samples = Samples()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        (folder / "shows").mkdir()
        transfers = Transfers(folder, stack, _bytes(arguments.size))
        shows = Shows(folder / "shows", stack, arguments.images, arguments.requests)
        for number in range(arguments.rounds):
            transfers.round(samples)
            shows.round(samples)
            print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
    found = bars(samples)
    show_table(found, f"medians of {arguments.rounds} rounds, one worker")
    save(found, samples.as_dict(), arguments.json, arguments.picture)
    return 0 if all(bar.holds for bar in found) else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"core.py: {error}")
