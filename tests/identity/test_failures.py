"""Failed tokens of an address: a bucket that fills up again."""

import pytest
from structlog.testing import capture_logs

from tidegate.domain.errors import Busy
from tidegate.identity import failures as module
from tidegate.identity.failures import FailedTokens


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def failed(clock: Clock) -> FailedTokens:
    """Six a minute: one each ten seconds."""
    return FailedTokens(6, clock=clock)


def empty(failed: FailedTokens, address: str = "192.0.2.1") -> None:
    for _ in range(6):
        failed.take(address)


def wait_of(failed: FailedTokens, address: str = "192.0.2.1") -> int:
    with pytest.raises(Busy) as refused:
        failed.take(address)
    return refused.value.retry_after


def test_sec_48_past_its_share_an_address_is_told_when_to_come_again(
    failed: FailedTokens, clock: Clock
) -> None:
    empty(failed)
    assert wait_of(failed) == 10
    clock.now = 7.5
    assert wait_of(failed) == 3


def test_sec_48_the_share_comes_back_with_time(failed: FailedTokens, clock: Clock) -> None:
    empty(failed)
    clock.now = 20
    failed.take("192.0.2.1")
    failed.take("192.0.2.1")
    assert wait_of(failed) == 10
    clock.now = 3600
    empty(failed)
    assert wait_of(failed) == 10


def test_sec_48_another_address_has_its_own(failed: FailedTokens) -> None:
    empty(failed)
    failed.take("192.0.2.2")


@pytest.mark.parametrize(
    ("address", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("", "", True),
    ],
)
def test_sec_48_what_counts_as_one_address(
    failed: FailedTokens, address: str, other: str, same: bool
) -> None:
    empty(failed, address)
    if same:
        assert wait_of(failed, other) == 10
    else:
        failed.take(other)


def test_sec_48_what_did_not_fail_is_given_back(failed: FailedTokens) -> None:
    empty(failed)
    failed.give_back("192.0.2.1")
    failed.take("192.0.2.1")
    assert wait_of(failed) == 10


def test_sec_48_no_more_is_given_back_than_there_was(failed: FailedTokens) -> None:
    failed.give_back("192.0.2.1")
    failed.take("192.0.2.1")
    for _ in range(3):
        failed.give_back("192.0.2.1")
    empty(failed)
    assert wait_of(failed) == 10


def test_sec_48_the_memory_for_it_has_an_end(
    failed: FailedTokens, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(module.MOST_ADDRESSES + 100):
        failed.take(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(failed._buckets) == module.MOST_ADDRESSES


def test_sec_48_without_a_limit_nothing_is_kept(clock: Clock) -> None:
    failed = FailedTokens(0, clock=clock)
    for _ in range(10_000):
        failed.take("192.0.2.1")
    assert len(failed._buckets) == 0


def test_sec_48_an_operator_is_told_once(failed: FailedTokens) -> None:
    with capture_logs() as logs:
        empty(failed)
        for _ in range(5):
            wait_of(failed)
    (line,) = logs
    assert (line["event"], line["address"]) == ("too many failed tokens", "192.0.2.1")
