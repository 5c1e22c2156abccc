import asyncio
from collections.abc import Awaitable, Callable

import pytest
from structlog.testing import capture_logs

from tidegate.jobs.runner import Runner


class Job:
    """Does as told, and tells when it has been called."""

    def __init__(self, do: Callable[[int], Awaitable[int]], every: float = 0.0) -> None:
        self.name = "job"
        self.every = every
        self.calls = 0
        self.called = asyncio.Condition()
        self._do = do

    async def once(self) -> int:
        async with self.called:
            self.calls += 1
            self.called.notify_all()
        return await self._do(self.calls)

    async def reaches(self, calls: int) -> None:
        async with asyncio.timeout(5), self.called:
            await self.called.wait_for(lambda: self.calls >= calls)


async def nothing(_: int) -> int:
    return 0


async def test_a_job_is_run_at_once_and_again_and_again() -> None:
    job = Job(nothing)
    runner = Runner([job])
    runner.start()
    await job.reaches(3)
    await runner.close()
    assert job.calls >= 3


async def test_one_that_need_not_look_at_once_waits_for_its_time() -> None:
    job = Job(nothing, every=3600)
    runner = Runner([job], look_at_once=False)
    runner.start()
    await asyncio.sleep(0)
    await runner.close()
    assert job.calls == 0
    soon = Job(nothing, every=0.01)
    runner = Runner([soon], look_at_once=False)
    runner.start()
    await soon.reaches(2)
    await runner.close()


async def test_between_two_looks_it_waits_for_nearly_as_long_as_agreed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waits: list[float | None] = []
    real = asyncio.timeout

    def timeout(seconds: float | None) -> asyncio.Timeout:
        if not looking(seconds):
            return real(seconds)
        waits.append(seconds)
        return real(0)

    def looking(seconds: float | None) -> bool:
        return seconds not in (5, 120)  # the test's own patience, and a look's deadline

    job = Job(nothing, every=10)
    monkeypatch.setattr("tidegate.jobs.runner.asyncio.timeout", timeout)
    runner = Runner([job])
    runner.start()
    await job.reaches(50)
    await runner.close()
    assert all(wait is not None and 8 <= wait <= 10 for wait in waits)
    assert len(set(waits)) > 1  # several workers do not look in step


async def test_a_failure_is_logged_and_the_job_goes_on() -> None:
    async def fail_first(call: int) -> int:
        if call == 1:
            raise RuntimeError("out of luck")
        return 0

    job = Job(fail_first)
    with capture_logs() as logs:
        runner = Runner([job])
        runner.start()
        await job.reaches(2)
        await runner.close()
    (line,) = (entry for entry in logs if entry["event"] == "job failed")
    assert line["job"] == "job"
    assert line["error"] == "RuntimeError: out of luck"
    assert line["log_level"] == "error"


async def test_what_was_mended_is_logged_and_nothing_is_not() -> None:
    async def mend_second(call: int) -> int:
        return 7 if call == 2 else 0

    job = Job(mend_second)
    with capture_logs() as logs:
        runner = Runner([job])
        runner.start()
        await job.reaches(4)
        await runner.close()
    assert [(entry["event"], entry["count"]) for entry in logs] == [("job mended", 7)]


async def test_a_look_has_a_deadline() -> None:
    async def hang_first(call: int) -> int:
        if call == 1:
            await asyncio.Event().wait()
        return 0

    job = Job(hang_first)
    with capture_logs() as logs:
        runner = Runner([job], deadline=0.05)
        runner.start()
        await job.reaches(2)
        await runner.close()
    assert [entry["error"] for entry in logs] == ["TimeoutError: "]


async def test_one_job_does_not_hold_up_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.jobs.runner.CLOSE_WITHIN", 0.1)

    async def hang(_: int) -> int:
        await asyncio.Event().wait()
        return 0

    stuck, quick = Job(hang), Job(nothing)
    runner = Runner([stuck, quick])
    runner.start()
    await quick.reaches(3)
    await runner.close()
    assert stuck.calls == 1


async def test_closing_ends_a_running_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tidegate.jobs.runner.CLOSE_WITHIN", 0.1)
    ended = asyncio.Event()

    async def hang(_: int) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 0

    job = Job(hang)
    runner = Runner([job])
    runner.start()
    await job.reaches(1)
    await runner.close()
    assert ended.is_set()


async def test_what_was_never_started_is_closed_as_well() -> None:
    job = Job(nothing)
    await Runner([job]).close()
    assert job.calls == 0
