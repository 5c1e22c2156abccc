"""Kill -9 and stop at random moments while images are copied from elsewhere, cloned, staged and
imported; then see that every task came to an end by legal steps, and that nothing is left of what
failed.

    python -m tests.e2e.task_kills --count 50 [--seed N] [--what worker|server|stop|all]

A gateway of two workers on SeaweedFS and SQLite copies by API v1's copy-from, by import tasks and
by the Import API into two stores, from sources of all kinds, and clones images: those in the store
that takes the clones are copied there, those in the other one are sent. Some kills later (one to
three) its clients pause, and it must come to rest. Exits with 1 and the details otherwise; the
folder is then kept.
"""

import argparse
import asyncio
import hashlib
import io
import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from contextlib import AsyncExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
from tests.e2e.bucket import MIB, Bucket
from tests.kit.gateway import DATA
from tests.kit.origins import Origin, serving
from tests.kit.server import Server, client, gone, until

from tidegate.seaweedfs import SeaweedFS

LOOK_EVERY = 0.05
LEGAL = {("pending", "processing"), ("processing", "success"), ("processing", "failure"),
         ("pending", "success"), ("pending", "failure")}  # fmt: skip
"""Steps that a look around may see: not every status is seen by each."""

LEGAL_OF_IMAGES = {"queued": {"saving", "uploading", "importing", "active", "killed", "deleted"},
                   "saving": {"active", "killed", "deleted", "queued"},
                   "uploading": {"importing", "active", "queued"},
                   "importing": {"active", "queued"},
                   "killed": {"deleted"}}  # fmt: skip
"""saving → queued, and killed → deleted: at a stop, and of a failed import task."""

IMPORT_API = {"direct": "glance-direct", "web": "web-download", "more": "copy-image"}

_UNIT = random.Random(5).randbytes(MIB)


@dataclass(frozen=True, kw_only=True)
class Options:
    count: int
    seed: int = 0
    clients: int = 6
    what: str = "all"
    lease: float = 3.0
    grace: float = 40.0


@dataclass
class Copy:
    """One image to be copied, as its client knows it. ``task`` is None until it is known,
    ``answered`` whether the gateway said that it will be done."""

    kind: str
    source: "Source"
    image: str | None = None
    task: str | None = None
    answered: bool = False
    status: str = ""
    image_status: str = ""
    made: str | None = None
    """The image that a task made, once it is known to be there."""


@dataclass
class Report:
    kills: int = 0
    violations: list[str] = field(default_factory=list)
    ends: dict[str, int] = field(default_factory=dict)


class Source(Origin):
    """``good``: whoever reads it to its end has the right bytes. ``rate``: bytes per second."""

    good = True
    rate = 0.0

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if not self.rate:
            await super()._send(writer, data)
            return
        for at in range(0, len(data), MIB):
            await super()._send(writer, data[at : at + MIB])
            await asyncio.sleep(MIB / self.rate)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


class _Fickle(Source):
    """Breaks off again and again, and can be gone on with."""

    async def _body(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        if len(body) > 4 * MIB:
            self.breaks = [6 * MIB]
        await super()._body(writer, body)


class _Short(Source):
    good = False


class _Missing(Source):
    good = False


class _Slow(Source):
    rate = 4.0 * MIB


class Harness:
    def __init__(self, options: Options, folder: Path, storage: SeaweedFS) -> None:
        self._options = options
        self._folder = folder
        self._storage = storage
        self._rng = random.Random(options.seed)
        self._report = Report()
        self._copies: list[Copy] = []
        self._originals: dict[str, Source] = {}
        self._open = asyncio.Event()
        self._up = asyncio.Event()
        self._up.set()
        self._busy = 0
        self._looking = asyncio.Lock()

    async def run(self) -> Report:
        """Until so many were killed, or something was found wrong."""
        options, report = self._options, self._report
        async with AsyncExitStack() as stack:
            self._bucket = stack.enter_context(Bucket(self._storage))
            path = self._bucket.configure(
                self._folder,
                second=True,
                server={"workers": 2, "drain_timeout": "1s"},
                uploads={"lease": f"{options.lease}s"},
            )
            self._server = Server(self._folder, "--config", str(path))
            stack.callback(lambda: self._server.running and self._server.kill())
            await self._start()
            self._sources = [await stack.enter_async_context(one) for one in self._kinds()]
            self._session = await stack.enter_async_context(
                client(timeout=aiohttp.ClientTimeout(total=30))
            )
            await self._fill_originals()
            stack.push_async_callback(
                _end, [asyncio.ensure_future(self._client()) for _ in range(options.clients)]
            )
            stack.push_async_callback(_end, [asyncio.ensure_future(self._watch())])
            while report.kills < options.count and not report.violations:
                await self._round()
            for copy in self._copies:
                name = f"{copy.kind} {copy.status or 'not begun'}"
                report.ends[name] = report.ends.get(name, 0) + 1
        return report

    def _kinds(self) -> list[Any]:
        data = {size: (_UNIT * 40)[:size] for size in (70_000, 6 * MIB + 7, 17 * MIB)}
        return [
            serving(data[70_000], kind=Source),
            serving(b"", kind=Source),
            serving(data[17 * MIB], kind=Source, chunked=True),
            serving(data[17 * MIB], kind=_Fickle),
            serving(data[17 * MIB], kind=_Slow),
            serving(data[6 * MIB + 7], kind=_Slow),
            serving(data[6 * MIB + 7], kind=_Short, length=7 * MIB, etag=None),
            serving(b"", kind=_Missing, status=500),
        ]

    async def _fill_originals(self) -> None:
        """The images that are cloned: some in each store."""
        for source in (self._sources[0], self._sources[2]):
            for store in ("main", "other"):
                image, headers = self._new_id(), {"Content-Type": DATA, "x-image-meta-store": store}
                body = {"id": image, "disk_format": "raw", "container_format": "bare"}
                code, _ = await self._ask("POST", "/v2/images", json=body)
                assert code == 201, code
                path, data = f"/v2/images/{image}/file", io.BytesIO(source.data)
                code, _ = await self._ask("PUT", path, data=data, headers=headers)
                assert code == 204, code
                self._originals[image] = source

    def _new_id(self) -> str:
        return str(UUID(int=self._rng.getrandbits(128), version=4))

    async def _round(self) -> None:
        report = self._report
        self._open.set()
        for _ in range(min(self._rng.randint(1, 3), self._options.count - report.kills)):
            await asyncio.sleep(self._rng.uniform(0.3, 2.5))  # the moment is what is random here
            await self._kill()
        self._open.clear()
        killed = time.monotonic()
        deadline = killed + 2 * self._options.lease + self._options.grace
        while wrong := await self._look():
            if time.monotonic() > deadline:
                report.violations += wrong
                return
            await asyncio.sleep(0.25)
        wrong = await self._look_at_bytes()
        report.violations += wrong
        say(f"     at rest {time.monotonic() - killed:.1f} s after it, {len(self._copies)} copies")

    async def _kill(self) -> None:
        self._report.kills += 1
        what = self._options.what
        if what == "all":
            what = self._rng.choice(("worker", "worker", "server", "stop"))
        workers = self._server.workers
        say(f"{self._report.kills:4d} {what}")
        if what == "worker" and workers:
            victim = self._rng.choice(workers)
            os.kill(victim, signal.SIGKILL)
            await until(lambda: _true(gone(victim)), "the worker to be gone")
            return
        self._up.clear()
        if what == "stop":
            await asyncio.get_running_loop().run_in_executor(None, self._server.stop)
        else:
            self._server.kill()
        await self._start()
        self._up.set()

    async def _start(self) -> None:
        self._server.launch()
        loop = asyncio.get_running_loop()
        await until(lambda: loop.run_in_executor(None, self._server.answers), "an answer", 60)

    # clients

    async def _client(self) -> None:
        while True:
            await self._up.wait()
            await self._open.wait()
            self._busy += 1
            try:
                await self._something()
            finally:
                self._busy -= 1
            await asyncio.sleep(self._rng.uniform(0.3, 1.5))

    async def _something(self) -> None:
        source = self._rng.choice(self._sources)
        kind = self._rng.choice(("copy", "import", "clone", *IMPORT_API))
        if kind == "copy":
            await self._copy_from(source)
        elif kind == "import":
            await self._import(source)
        elif kind == "clone":
            await self._clone(self._rng.choice(list(self._originals)))
        else:
            await self._import_by_api(kind, source)

    async def _copy_from(self, source: Source) -> None:
        image = self._new_id()
        copy = Copy("copy", source, image=image)
        self._copies.append(copy)
        meta = {"id": image, "disk_format": "raw", "container_format": "bare"}
        if not source.good:
            meta["size"] = str(7 * MIB)
        headers = {f"x-image-meta-{name}": value for name, value in meta.items()}
        headers["x-glance-api-copy-from"] = source.url
        code, _ = await self._ask("POST", "/v1/images", headers=headers)
        copy.answered = code == 201
        if code not in (0, 201, 429):
            self._report.violations.append(f"copying from a source was answered {code}")

    async def _import(self, source: Source) -> None:
        given = {"import_from": source.url, "import_from_format": "raw",
                 "image_properties": {"disk_format": "raw"}}  # fmt: skip
        code, task = await self._ask("POST", "/v2/tasks", json={"type": "import", "input": given})
        if code == 201:
            self._copies.append(Copy("import", source, task=task["id"], answered=True))
        elif code:
            self._report.violations.append(f"an import was answered {code}")

    async def _clone(self, original: str) -> None:
        given = {"image_id": original}
        code, task = await self._ask("POST", "/v2/tasks", json={"type": "clone", "input": given})
        if code == 201:
            source = self._originals[original]
            self._copies.append(Copy("clone", source, task=task["id"], answered=True))
        elif code:
            self._report.violations.append(f"a clone was answered {code}")

    async def _import_by_api(self, kind: str, source: Source) -> None:
        """Into an image that is filled or staged before, if need be."""
        image = self._new_id()
        copy = Copy(kind, source, image=image)
        self._copies.append(copy)
        body = {"id": image, "disk_format": "raw", "container_format": "bare"}
        code, _ = await self._ask("POST", "/v2/images", json=body)
        path = {"direct": "stage", "more": "file"}.get(kind)
        if code == 201 and path is not None:
            data = io.BytesIO(source.data)
            headers = {"Content-Type": DATA}
            whole = f"/v2/images/{image}/{path}"
            code, _ = await self._ask("PUT", whole, data=data, headers=headers)
        if code not in (201, 204):
            if code not in (0, 400, 429):  # gone, broken off by a stop, refused by one
                self._report.violations.append(f"data for {kind} was answered {code}")
            return
        asked: dict[str, Any] = {"method": {"name": IMPORT_API[kind], "uri": source.url}}
        asked["stores"] = ["other"] if kind == "more" else ["main", "other"]
        asked["all_stores_must_succeed"] = self._rng.random() < 0.5
        code, _ = await self._ask("POST", f"/v2/images/{image}/import", json=asked)
        copy.answered = code == 202
        if code not in (0, 202, 429):
            self._report.violations.append(f"an import by {kind} was answered {code}")

    async def _ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON of the answer; 0: there was none."""
        try:
            async with self._session.request(method, self._server.url + path, **options) as answer:
                body = await answer.read()
                return answer.status, json.loads(body) if body else None
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError):
            return 0, None

    # what is seen

    async def _watch(self) -> None:
        while True:
            await self._up.wait()
            await self._see()
            await asyncio.sleep(LOOK_EVERY)

    async def _see(self) -> bool:
        """Whether all of it could be seen. Each step of a task and an image must be legal."""
        async with self._looking:  # or what was read first could be compared last
            return await self._seen()

    async def _seen(self) -> bool:
        tasks = await self._all("/v2/tasks?limit=1000", "tasks")
        images = await self._all("/v2/images?limit=1000", "images")
        if tasks is None or images is None:
            return False
        by_image = {task["id"]: task for task in tasks}
        for copy in self._copies:
            if copy.task is None:
                await self._find_task(copy)
            if copy.task is not None and copy.task in by_image:
                self._step(copy, by_image[copy.task]["status"])
        statuses = {image["id"]: image["status"] for image in images}
        for copy in self._copies:
            if copy.image is not None:
                self._step_of_image(copy, statuses.get(copy.image, "deleted"))
        return True

    async def _find_task(self, copy: Copy) -> None:
        code, found = await self._ask("GET", f"/v2/images/{copy.image}/tasks")
        if code == 200 and found["tasks"]:
            copy.task = found["tasks"][0]["id"]

    def _step(self, copy: Copy, status: str) -> None:
        before, copy.status = copy.status, status
        if before not in ("", status) and (before, status) not in LEGAL:
            self._report.violations.append(f"task {copy.task} went from {before} to {status}")

    def _step_of_image(self, copy: Copy, status: str) -> None:
        before = copy.image_status
        if status == "deleted" and not before:
            return  # not made yet
        copy.image_status = status
        legal = LEGAL_OF_IMAGES.get(before, set())
        if before not in ("", status) and status not in legal:
            self._report.violations.append(f"image {copy.image} went from {before} to {status}")

    async def _all(self, path: str, name: str) -> list[dict[str, Any]] | None:
        found: list[dict[str, Any]] = []
        while path:
            code, page = await self._ask("GET", path)
            if code != 200:
                return None
            found += page[name]
            path = page.get("next", "")
        return found

    async def _look(self) -> list[str]:
        """What is not as it must be once all is quiet, but for the bytes."""
        if self._busy or not await self._see():
            return ["the gateway does not answer"]
        wrong = []
        wanted = Counter(self._originals.keys())
        for copy in self._copies:
            wrong += await self._judge(copy, wanted)
        found = Counter(_image_of(key) for key in self._bucket.objects())
        wrong += [f"{image}: {found[image]} objects, not {wanted[image]}"
                  for image in found | wanted if found[image] != wanted[image]]  # fmt: skip
        wrong += [f"{key}: a multipart upload is open" for key, _ in self._bucket.unfinished()]
        with closing(
            sqlite3.connect(f"file:{self._folder / 'tidegate.db'}?mode=ro", uri=True)
        ) as c:
            wrong += [f"an attempt is {state}" for (state,) in
                      c.execute("SELECT state FROM uploads WHERE ended_at IS NULL")]  # fmt: skip
            wrong += [f"image {image} is {status}" for image, status in c.execute(
                "SELECT id, status FROM images WHERE status IN ('saving', 'importing')"
            )]  # fmt: skip
            wrong += [f"image {image} is {state}" for image, state in c.execute(
                "SELECT image_id, state FROM uploads JOIN images ON images.id = image_id"
                " WHERE (state = 'staged') <> (status = 'uploading') AND purpose = 'stage'"
                " AND state NOT IN ('failed', 'done')"
            )]  # fmt: skip
            wrong += [f"image {image} is locked" for (image,) in c.execute(
                "SELECT image_id FROM image_properties WHERE name = 'os_glance_import_task'"
            )]  # fmt: skip
            wrong += [f"task {task} is {status}" for task, status in c.execute(
                "SELECT id, status FROM tasks WHERE status IN ('pending', 'processing')"
            )]  # fmt: skip
        return wrong

    async def _judge(self, copy: Copy, wanted: Counter[str]) -> list[str]:
        """Also counts the objects that there must be, by image."""
        if copy.kind in IMPORT_API:
            return await self._judge_api(copy, wanted)
        if copy.task is None:
            # the gateway died between the image and its task, and nobody was told of either
            if copy.answered or copy.image_status not in ("", "queued"):
                return [f"image {copy.image} is {copy.image_status} and has no task"]
            return []
        code, task = await self._ask("GET", f"/v2/tasks/{copy.task}")
        if code != 200:
            return [f"task {copy.task} is answered {code}"]
        name = f"{copy.kind} {task['id']} ({task['status']}: {task['message']})"
        image_id = task.get("image_id")
        code, image = await self._ask("GET", f"/v2/images/{image_id}")
        status = image["status"] if code == 200 else "deleted"
        if task["status"] == "success":
            wanted[image_id] += 1
            if not copy.source.good or status != "active":
                return [f"{name}: its image is {status}"]
            copy.made = image_id
            if image["size"] != len(copy.source.data) or task["result"] != {"image_id": image_id}:
                return [f"{name}: its image has {image['size']} bytes"]
            return []
        failed = "killed" if copy.kind == "copy" else "deleted"
        if status != failed or task["status"] != "failure" or not task["message"]:
            return [f"{name}: its image is {status}"]
        return []

    async def _judge_api(self, copy: Copy, wanted: Counter[str]) -> list[str]:
        code, image = await self._ask("GET", f"/v2/images/{copy.image}")
        if code != 200:
            return [f"image {copy.image} is answered {code}"] if copy.answered else []
        status, places = image["status"], len(image["locations"])
        assert copy.image is not None
        wanted[copy.image] += 1 if status == "uploading" else places
        name = f"{copy.kind} {copy.image} ({copy.status})"
        if copy.task is None:
            legal = {"direct": ("queued", "uploading"), "web": ("queued",),
                     "more": ("queued", "killed", "active")}[copy.kind]  # fmt: skip
            return [f"{name}: {status}"] if copy.answered or status not in legal else []
        if copy.status == "success":
            whole = image["size"] == len(copy.source.data)
            good = status == "active" and places == 2 and whole
            good = good and (copy.kind != "web" or copy.source.good)
        else:
            good = (status, places) == (("active", 1) if copy.kind == "more" else ("queued", 0))
        return [] if good else [f"{name}: its image is {status} in {places} stores"]

    async def _look_at_bytes(self) -> list[str]:
        wrong = []
        for key in self._bucket.objects():
            (copy,) = [one for one in self._copies if self._is_of(one, key)] or [None]
            if copy is not None and self._bucket.sha256(key) != copy.source.sha256:
                wrong.append(f"{key}: other bytes than the source's")
        return wrong

    def _is_of(self, copy: Copy, key: str) -> bool:
        return _image_of(key) in (copy.image, copy.made)


def _image_of(key: str) -> str:
    return key.removeprefix("other/").split("/")[0]


async def _end(tasks: list["asyncio.Future[None]"]) -> None:
    for task in tasks:
        task.cancel()
    for failure in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(failure, Exception):
            raise failure


async def _true(value: bool) -> bool:
    return value


def say(line: str) -> None:
    print(line, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.e2e.task_kills")
    parser.add_argument("--count", type=int, default=50)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--what", choices=("worker", "server", "stop", "all"), default="all")
    parser.add_argument("--grace", type=float, default=40.0, help="seconds beyond two leases")
    options = Options(**vars(parser.parse_args()))
    say(f"seed {options.seed}")
    folder = Path(tempfile.mkdtemp(prefix="tidegate-task-kills-"))
    begun = time.monotonic()
    with SeaweedFS(folder / "seaweedfs") as storage:
        report = asyncio.run(Harness(options, folder, storage).run())
    ends = ", ".join(f"{count} {what}" for what, count in sorted(report.ends.items()))
    say(f"{report.kills} kills in {time.monotonic() - begun:.0f} s; {ends}")
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
