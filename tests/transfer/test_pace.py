import pytest

from tidegate.transfer.pace import Pace


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_bytes_are_paid_for_in_seconds(clock: Clock) -> None:
    pace = Pace(10, clock)
    assert pace.spend(5) == pytest.approx(0.5)
    assert pace.spend(20) == pytest.approx(2.5)


def test_who_waits_as_told_keeps_the_rate(clock: Clock) -> None:
    pace = Pace(10, clock)
    for _ in range(100):
        clock.now += pace.spend(7)
    assert clock.now == pytest.approx(100 + 70)


def test_a_pause_saves_nothing_up(clock: Clock) -> None:
    pace = Pace(10, clock)
    pace.spend(10)
    clock.now += 60
    assert pace.spend(10) == pytest.approx(1)


def test_time_that_the_work_took_counts(clock: Clock) -> None:
    pace = Pace(10, clock)
    pace.spend(10)
    clock.now += 0.4
    assert pace.spend(10) == pytest.approx(1.6)


def test_without_a_rate_nobody_waits(clock: Clock) -> None:
    assert Pace(0, clock).spend(2**40) == 0
