"""Kill -9 at random moments, under load, on real parts; then see that nothing was lost.

    python -m tests.e2e.kills --count 50 [--seed N] [--clients 8] [--what worker|server|both]
                              [--point NAME:PROBABILITY] [--grace SECONDS]

A gateway of two workers on SeaweedFS and SQLite takes uploads of all kinds. Some kills later
(one to three) the clients pause; within a lease and ten seconds of the last kill everything must
be as ``audit`` wants it. Exits with 1 and the details otherwise; the folder is then kept.
"""

import argparse
import asyncio
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import aiohttp
from tests.e2e.audit import Audit
from tests.e2e.bucket import Bucket
from tests.e2e.crowd import Crowd, origin
from tests.kit.server import Server, gone, until

from tidegate.seaweedfs import SeaweedFS

LOOK_EVERY = 0.25


@dataclass(frozen=True, kw_only=True)
class Options:
    count: int
    seed: int = 0
    clients: int = 8
    what: str = "both"
    point: str = ""
    lease: float = 3.0
    grace: float = 10.0


@dataclass
class Report:
    kills: int = 0
    violations: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    rests: list[float] = field(default_factory=list)


class Harness:
    def __init__(self, options: Options, folder: Path, storage: SeaweedFS) -> None:
        self._options = options
        self._folder = folder
        self._storage = storage
        self._rng = random.Random(options.seed)
        self._report = Report()
        self._environ = {"TIDEGATE_KILL": options.point} if options.point else {}

    async def run(self) -> Report:
        """Until so many were killed, or something was found wrong."""
        options, report = self._options, self._report
        async with AsyncExitStack() as stack:
            bucket = stack.enter_context(Bucket(self._storage))
            foreign = f"{uuid4()}/not-ours"
            bucket.put(foreign, b"not ours")
            bucket.begin(foreign)
            path = bucket.configure(
                self._folder,
                server={"workers": 2, "drain_timeout": "1s"},
                uploads={"lease": f"{options.lease}s"},
            )
            server = stack.enter_context(_stopped(self._folder, path))
            self._server = server
            await self._start()
            session = await stack.enter_async_context(aiohttp.ClientSession())
            url = await stack.enter_async_context(origin())
            crowd = Crowd(
                server.url, url, clients=options.clients, lease=options.lease, rng=self._rng
            )
            self._crowd = await stack.enter_async_context(crowd.at_work())
            catalog = self._folder / "tidegate.db"
            self._audit = Audit(server.url, crowd, bucket, catalog, foreign=foreign)
            while report.kills < options.count and not report.violations:
                await self._round(session)
            if not report.violations:
                report.violations += await self._audit.look_at_bytes(session, all_again=True)
            report.statuses = await self._audit.statuses(session)
            report.outcomes = crowd.outcomes
            server.stop()
        return report

    async def _round(self, session: aiohttp.ClientSession) -> None:
        crowd, report = self._crowd, self._report
        crowd.open.set()
        for _ in range(min(self._rng.randint(1, 3), self._options.count - report.kills)):
            await asyncio.sleep(self._rng.uniform(0.2, 2.0))  # the moment is what is random here
            await self._kill()
        crowd.open.clear()
        killed = time.monotonic()
        await crowd.quiet.wait()
        # what ends later than the last kill has its own time to come to rest
        since = max(killed, time.monotonic() - self._options.lease)
        deadline = since + self._options.lease + self._options.grace
        wrong = await self._rest(session, deadline)
        rest = time.monotonic() - killed
        report.rests.append(rest)
        wrong += await self._audit.look_at_bytes(session, all_again=False)
        report.violations += wrong + crowd.strange
        statuses = await self._audit.statuses(session)
        say(f"     at rest {rest:.1f} s after it: {_words(statuses)}")

    async def _rest(self, session: aiohttp.ClientSession, deadline: float) -> list[str]:
        while True:
            try:
                wrong = await self._audit.look(session)
            except aiohttp.ClientError as error:  # a worker that was asked died of its point
                wrong = [f"no answer: {type(error).__name__}"]
            if not wrong or time.monotonic() > deadline:
                return wrong
            await asyncio.sleep(LOOK_EVERY)

    async def _kill(self) -> None:
        self._report.kills += 1
        what = self._options.what
        if what == "both":
            what = self._rng.choice(("worker", "server"))
        workers = self._server.workers
        say(f"{self._report.kills:4d} kill {what}, {self._crowd.running} requests in flight")
        if what == "worker" and workers:
            victim = self._rng.choice(workers)
            os.kill(victim, signal.SIGKILL)
            await until(lambda: _true(gone(victim)), "the worker to be gone")
        else:
            self._crowd.up.clear()
            self._server.kill()
            await self._start()
            self._crowd.up.set()

    async def _start(self) -> None:
        self._server.launch(**self._environ)
        loop = asyncio.get_running_loop()
        await until(lambda: loop.run_in_executor(None, self._server.answers), "an answer", 60)


class _stopped(Server):  # noqa: N801
    """A server that is not started on entering, and killed on leaving."""

    def __init__(self, folder: Path, config: Path) -> None:
        super().__init__(folder, "--config", str(config))

    def __enter__(self) -> "_stopped":
        return self


async def _true(value: bool) -> bool:
    return value


def _words(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(counts.items()))


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.kills")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--what", choices=("worker", "server", "both"), default="both")
    parser.add_argument("--point", default="", help="NAME:PROBABILITY, a kill point on top")
    parser.add_argument("--grace", type=float, default=10.0, help="seconds beyond a lease")
    options = Options(**vars(parser.parse_args()))
    say(f"seed {options.seed}")
    folder = Path(tempfile.mkdtemp(prefix="tidegate-kills-"))
    begun = time.monotonic()
    with SeaweedFS(folder / "seaweedfs") as storage:
        report = asyncio.run(Harness(options, folder, storage).run())
    seconds = time.monotonic() - begun
    say(f"{report.kills} kills in {seconds:.0f} s; images: {_words(report.statuses)}")
    say(f"answers: {_words(report.outcomes)}")
    rests = sorted(report.rests)
    say(f"at rest after {rests[len(rests) // 2]:.1f} s (median), {rests[-1]:.1f} s (worst)")
    for line in report.violations:
        say(f"VIOLATION: {line}")
    if report.violations:
        say(f"seed {options.seed}; what was left is in {folder}")
        return 1
    shutil.rmtree(folder)
    say("no violation")
    return 0


if __name__ == "__main__":
    sys.exit(main())
