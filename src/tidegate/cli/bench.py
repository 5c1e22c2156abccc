"""``tidegate bench``: load on a gateway, and what it costs."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn

from tidegate.bench import report
from tidegate.bench.answers import BenchError
from tidegate.bench.driver import Target
from tidegate.bench.figures import Figure, median
from tidegate.bench.processes import STORES, gateway, storage
from tidegate.bench.scenarios import SCENARIOS, Bench
from tidegate.bench.usage import Processes, exists
from tidegate.server import StartError, say

Scenarios = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SCENARIO]…", help=f"All by default: {', '.join(SCENARIOS)}."),
]
Url = Annotated[str | None, typer.Option(help="A running Image API; otherwise one is started.")]
Pid = Annotated[int | None, typer.Option(help="The process behind --url, to see what it costs.")]
StoreKind = Annotated[
    str | None, typer.Option(help=f"Behind a started gateway: {', '.join(STORES)}.")
]
Workers = Annotated[int | None, typer.Option(help="Of a started gateway; 0: one per core.")]
Output = Annotated[
    Path | None, typer.Option("--json", metavar="FILE", help="All figures; -: standard output.")
]
Picture = Annotated[Path | None, typer.Option(metavar="FILE", help="A chart, .svg or .png.")]
Token = Annotated[str, typer.Option(envvar="TIDEGATE_TOKEN", help="Sent as X-Auth-Token.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """What is to be measured, and how often."""

    names: list[str]
    url: str | None
    pid: int | None
    store: str | None
    workers: int | None
    scale: float
    repeat: int
    token: str

    @property
    def subject(self) -> str:
        if self.url is not None:
            return self.url
        count = 1 if self.workers is None else self.workers
        return f"tidegate serve, workers {count}, store {self.store or STORES[0]}"

    @property
    def title(self) -> str:
        return f"{self.subject}; scale {self.scale:g}, median of {self.repeat}"


def bench(
    scenarios: Scenarios = None,
    url: Url = None,
    pid: Pid = None,
    store: StoreKind = None,
    workers: Workers = None,
    scale: Annotated[float, typer.Option(help="0.1: a tenth of the bytes and requests.")] = 1.0,
    repeat: Annotated[int, typer.Option(help="The medians are shown.")] = 1,
    json_file: Output = None,
    picture: Picture = None,
    token: Token = "",
) -> None:
    """Measure a gateway: rates, latencies, and what it spends on them.

    Without --url a whole gateway is started for it, in front of a store in memory that costs
    next to nothing.
    """
    order = _Order(
        names=list(dict.fromkeys(scenarios or SCENARIOS)),
        url=url,
        pid=pid,
        store=store,
        workers=workers,
        scale=scale,
        repeat=repeat,
        token=token,
    )
    wrong = _wrong(order, picture)
    if wrong is not None:
        say(wrong)
        raise typer.Exit(2)
    try:
        if picture is not None:
            report.need_matplotlib()
        with _opened(order) as subject:
            found = _run(subject, order)
    except BenchError as error:
        raise StartError(str(error)) from error
    _tell(found, order, json_file, picture)


def _wrong(order: _Order, picture: Path | None) -> str | None:
    """What cannot be meant, in one line; None: nothing."""
    unknown = [name for name in order.names if name not in SCENARIOS]
    if unknown:
        return f"{unknown[0]!r} is no scenario; known are {', '.join(SCENARIOS)}"
    if not 0 < order.scale <= 100:
        return "--scale must be more than 0, and at most 100"
    if order.repeat < 1:
        return "--repeat must be at least 1"
    if (order.workers or 0) < 0:
        return "--workers must not be negative"
    if order.store is not None and order.store not in STORES:
        return f"{order.store!r} is no store to measure with; known are {', '.join(STORES)}"
    if order.url is None and order.pid is not None:
        return "--pid goes with --url; a started gateway's is known"
    if order.url is not None and (order.store, order.workers) != (None, None):
        return "--store and --workers are for a gateway that is started, not for --url"
    if order.pid is not None and not exists(order.pid):
        return f"there is no process {order.pid}"
    if picture is not None and picture.suffix not in report.PICTURES:
        return f"{picture} must end in {' or '.join(report.PICTURES)}"
    try:
        Target.parse(order.url or "http://127.0.0.1", order.token)
    except BenchError as error:
        return str(error)
    return None


@contextmanager
def _opened(order: _Order) -> Iterator[Bench]:
    if order.url is not None:
        processes = None if order.pid is None else Processes(order.pid)
        yield Bench(Target.parse(order.url, order.token), processes, scale=order.scale)
        return
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        folder = Path(name)
        count = 1 if order.workers is None else order.workers
        with (
            storage(order.store or STORES[0], folder) as stores,
            gateway(folder, stores, workers=count) as running,
        ):
            target = Target.parse(running.url, order.token)
            yield Bench(target, running.processes, scale=order.scale)


def _run(subject: Bench, order: _Order) -> list[list[Figure]]:
    """The repetitions of each figure. The scenarios take turns, so that what the machine does
    meanwhile falls on all of them."""
    found: dict[str, list[Figure]] = {}
    console = Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("", total=None)
        for number in range(order.repeat):
            for name in order.names:
                progress.update(task, description=f"{name} ({number + 1} of {order.repeat})")
                for figure in subject.run(name):
                    found.setdefault(figure.scenario, []).append(figure)
    return list(found.values())


def _tell(
    found: list[list[Figure]], order: _Order, file: Path | None, picture: Path | None
) -> None:
    medians = [median(repetitions) for repetitions in found]
    text = report.as_json(
        medians,
        [figure for repetitions in found for figure in repetitions],
        {"subject": order.subject, "scale": order.scale, "repeat": order.repeat},
    )
    if file is not None and str(file) == "-":
        typer.echo(text)
    else:
        report.show(medians, order.title, Console())
    try:
        if file is not None and str(file) != "-":
            file.write_text(f"{text}\n", encoding="utf-8")
        if picture is not None:
            report.draw(medians, picture, order.title)
    except OSError as error:
        raise StartError(f"cannot write {error.filename}: {error.strerror}") from error
