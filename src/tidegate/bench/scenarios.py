"""What is done to a gateway, and checked: uploads, downloads, records, registered locations."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tidegate.bench.answers import Answer, BenchError
from tidegate.bench.driver import Connection, Target
from tidegate.bench.figures import Figure
from tidegate.bench.origin import Origin
from tidegate.bench.payload import Payload
from tidegate.bench.usage import Processes
from tidegate.bench.volley import ask_all

GIB = 2**30
MIB = 2**20
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
PAGE = 25
RECORDS = 1000
ASKING = 8
"""Connections that ask small requests at a time."""


@dataclass(frozen=True, slots=True)
class Load:
    """``count`` images of ``size`` bytes, ``parallel`` of them at a time."""

    count: int
    size: int
    parallel: int

    def scaled(self, scale: float) -> "Load":
        """Large images shrink; many small ones become fewer."""
        count = max(1, round(self.count * scale)) if self.count > self.parallel else self.count
        size = self.size if count < self.count else max(1, round(self.size * scale))
        return Load(count, size, min(self.parallel, count))


LOADS = {
    "1g": Load(1, GIB, 1),
    "8x256m": Load(8, 256 * MIB, 8),
    "200x1m": Load(200, MIB, 8),
}
SCENARIOS = (
    *(f"upload-{name}" for name in LOADS),
    *(f"download-{name}" for name in LOADS),
    "catalog",
    "register-v1",
    "register-v2",
)
V1_SCENARIOS = ("register-v1",)


class Bench:
    """A gateway under load. ``processes`` are the gateway's, where they are known. Every image
    that was made is removed again. BenchError: it did something wrong."""

    def __init__(
        self,
        target: Target,
        processes: Processes | None = None,
        *,
        scale: float = 1.0,
        payload: Payload | None = None,
    ) -> None:
        self._target = target
        self._processes = processes
        self.loads = {name: load.scaled(scale) for name, load in LOADS.items()}
        self._records = max(1, round(RECORDS * scale))
        self._payload = payload

    def run(self, scenario: str) -> list[Figure]:
        """The figures of one scenario; several where it has several steps."""
        kind, _, rest = scenario.partition("-")
        match kind:
            case "upload":
                return [self.upload(scenario, self.loads[rest])]
            case "download":
                with self.filled(self.loads[rest]) as ids:
                    return [self.download(scenario, self.loads[rest], ids)]
            case "catalog":
                return self._catalog()
            case "register":
                return [self._register(scenario, rest)]
        raise BenchError(f"{scenario!r} is no scenario; known are {', '.join(SCENARIOS)}")

    @property
    def payload(self) -> Payload:
        if self._payload is None:
            self._payload = Payload(max(load.size for load in self.loads.values()))
        return self._payload

    # bytes

    def upload(self, scenario: str, load: Load) -> Figure:
        """Create images and fill them."""
        self._prepare(load)
        with self._made() as ids:
            numbers: dict[str, int] = {}

            def one(connection: Connection, number: int) -> None:
                image_id = self._create(connection, number)
                ids.append(image_id)
                self._fill(connection, image_id, number, load.size)
                numbers[image_id] = number

            figure = self._timed(scenario, load, one)
            with Connection(self._target) as connection:
                for image_id, number in numbers.items():
                    self._check(connection, image_id, number, load.size)
        return figure

    @contextmanager
    def filled(self, load: Load) -> Iterator[list[str]]:
        """The ids of images to download, which are there meanwhile."""
        with self._made() as ids, Connection(self._target) as connection:
            for number in range(load.count):
                ids.append(self._create(connection, number))
                self._fill(connection, ids[number], number, load.size)
                self._check(connection, ids[number], number, load.size)
            yield ids

    def download(self, scenario: str, load: Load, ids: Sequence[str]) -> Figure:
        """Fetch all of these images, which ``filled`` has made."""

        def one(connection: Connection, number: int) -> None:
            answer = connection.download(f"/v2/images/{ids[number]}/file")
            _expect("GET file", answer, 200)
            if answer.size != load.size:
                raise BenchError(f"{answer.size} bytes came of an image of {load.size}")

        return self._timed(scenario, load, one)

    def _prepare(self, load: Load) -> None:
        """What costs the driver time is done before anything is timed."""
        for number in range(load.count):
            self.payload.md5(self.payload.offset(number, load.size), load.size)

    def _create(self, connection: Connection, number: int) -> str:
        answer = connection.ask("POST", "/v2/images", _record(number))
        _expect("POST image", answer, 201)
        image_id: str = answer.json["id"]
        return image_id

    def _fill(self, connection: Connection, image_id: str, number: int, size: int) -> None:
        path = f"/v2/images/{image_id}/file"
        offset = self.payload.offset(number, size)
        _expect("PUT file", connection.upload(path, self.payload, offset, size), 204)

    def _check(self, connection: Connection, image_id: str, number: int, size: int) -> None:
        answer = connection.ask("GET", f"/v2/images/{image_id}")
        _expect("GET image", answer, 200)
        image = answer.json
        if (image["status"], image["size"]) != ("active", size):
            raise BenchError(
                f"an image of {size} bytes became {image['status']} with {image['size']} bytes"
            )
        checksum = self.payload.md5(self.payload.offset(number, size), size)
        # none: its digests are switched off
        if image["checksum"] not in (None, checksum):
            raise BenchError(f"the checksum is {image['checksum']}, but {checksum} was sent")

    # records

    def _catalog(self) -> list[Figure]:
        images = "/v2/images"
        with self._made() as ids:

            def keep(number: int, answer: Answer) -> None:
                _expect("POST image", answer, 201)
                ids.append(answer.json["id"])

            records = [self._message("POST", images, _record(n)) for n in range(self._records)]
            figures = [self._asked("catalog create", records, keep)]
            shows = [self._message("GET", f"{images}/{image_id}") for image_id in ids]
            figures.append(self._asked("catalog show", shows, _expecting("GET image", 200)))
            page = self._message("GET", f"{images}?limit={PAGE}")
            lists = [page] * max(1, len(ids) // 5)
            figures.append(self._asked("catalog list", lists, _expecting("GET images", 200)))
            deletes = [self._message("DELETE", f"{images}/{image_id}") for image_id in ids]
            figures.append(self._asked("catalog delete", deletes, _expecting("DELETE image", 204)))
            ids.clear()
        return figures

    def _register(self, scenario: str, version: str) -> Figure:
        with self._made() as ids, Origin(size=MIB) as origin:
            if version == "v1":

                def keep_v1(number: int, answer: Answer) -> None:
                    _expect("POST v1 image", answer, 201)
                    ids.append(answer.json["image"]["id"])

                messages = [
                    self._message("POST", "/v1/images", None, _headers(number, origin))
                    for number in range(self._records)
                ]
                return self._asked(scenario, messages, keep_v1)

            def keep(number: int, answer: Answer) -> None:
                _expect("POST image", answer, 201)
                ids.append(answer.json["id"])

            records = [
                self._message("POST", "/v2/images", _record(n)) for n in range(self._records)
            ]
            create = self._asked(scenario, records, keep)
            patches = [
                self._message("PATCH", f"/v2/images/{image_id}", _locating(origin, number), PATCH)
                for number, image_id in enumerate(ids)
            ]
            locate = self._asked(scenario, patches, _expecting("PATCH locations", 200))
            return create.followed_by(locate)

    def _message(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> bytes:
        return self._target.message(method, path, body, headers)

    # measuring

    def _asked(
        self, name: str, messages: Sequence[bytes], check: Callable[[int, Answer], None]
    ) -> Figure:
        with self._watching(name) as figure:
            figure.latencies = ask_all(self._target, messages, ASKING, check)
        return figure

    def _timed(self, name: str, load: Load, one: Callable[[Connection, int], None]) -> Figure:
        """``one`` for every number, ``load.parallel`` of them at a time."""
        latencies: list[float] = []
        numbers = iter(range(load.count))
        lock = threading.Lock()
        failures: list[BaseException] = []

        def work() -> None:
            try:
                with Connection(self._target) as connection:
                    while not failures:
                        with lock:
                            number = next(numbers, None)
                        if number is None:
                            return
                        begun = time.perf_counter()
                        one(connection, number)
                        latencies.append(time.perf_counter() - begun)
            except (BenchError, OSError, ValueError, KeyError) as error:
                failures.append(error)

        threads = [threading.Thread(target=work) for _ in range(load.parallel)]
        with self._watching(name) as figure:
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        if failures:
            raise BenchError(f"{name}: {failures[0]}") from failures[0]
        figure.latencies = latencies
        figure.bytes = load.count * load.size
        return figure

    @contextmanager
    def _watching(self, name: str) -> Iterator[Figure]:
        """Fills in what the inside costs."""
        figure = Figure(name)
        gateway = self._processes
        if gateway is not None:
            gateway.forget_peaks()
            figure.gateway_cpu = -gateway.cpu()
        figure.driver_cpu = -time.process_time()
        figure.seconds = -time.perf_counter()
        yield figure
        figure.seconds += time.perf_counter()
        figure.driver_cpu += time.process_time()
        if gateway is not None and figure.gateway_cpu is not None:
            figure.gateway_cpu += gateway.cpu()
            figure.peak = gateway.peak()

    @contextmanager
    def _made(self) -> Iterator[list[str]]:
        """Ids that are put into the list are deleted at the end."""
        ids: list[str] = []
        try:
            yield ids
        finally:
            messages = [self._message("DELETE", f"/v2/images/{image_id}") for image_id in ids]
            # where the inside failed, its error is the one to be told
            with ExitStack() as stack:
                stack.enter_context(suppress(BenchError, OSError))
                ask_all(self._target, messages, ASKING, lambda number, answer: None)


def _record(number: int) -> dict[str, Any]:
    return {"name": f"bench-{number}", "disk_format": "raw", "container_format": "bare"}


def _headers(number: int, origin: Origin) -> dict[str, str]:
    """API v1's, of an image whose data lies elsewhere; its size is said, so nothing is fetched."""
    return {
        "x-image-meta-name": f"bench-{number}",
        "x-image-meta-disk_format": "raw",
        "x-image-meta-container_format": "bare",
        "x-image-meta-size": str(origin.size),
        "x-image-meta-location": origin.url(number),
    }


def _locating(origin: Origin, number: int) -> list[dict[str, Any]]:
    value = {"url": origin.url(number), "metadata": {}}
    return [{"op": "add", "path": "/locations/-", "value": value}]


def _expecting(what: str, status: int) -> Callable[[int, Answer], None]:
    return lambda number, answer: _expect(what, answer, status)


def _expect(what: str, answer: Answer, status: int) -> None:
    if answer.status != status:
        text = answer.body[:200].decode(errors="replace")
        raise BenchError(f"{what} was answered {answer.status}, not {status}: {text}")
