import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.domain.errors import TooLarge
from tidegate.stores.base import Limits
from tidegate.transfer.memory import BLOCK
from tidegate.transfer.parts import plan

MIB, GIB, TIB = 2**20, 2**30, 2**40
S3 = Limits(min_part=5 * MIB, max_part=5 * GIB, max_object=5 * TIB)


def sizes(declared: int | None, body: int, **changes: int) -> list[int]:
    """The sizes of all parts of a body of ``body`` bytes."""
    settings = {"start": 16 * MIB, "budget": 256 * MIB, **changes}
    cut = plan(declared, framed=declared is not None, limits=S3, **settings)
    found, done = [], 0
    while done < body:
        found.append(min(cut.next(done), body - done))
        done += found[-1]
    return found


def test_a_body_of_known_length_is_cut_into_equal_parts_but_the_last() -> None:
    assert sizes(40 * MIB, 40 * MIB) == [16 * MIB, 16 * MIB, 8 * MIB]


def test_an_empty_body_has_no_part_of_any_size() -> None:
    assert plan(0, framed=True, start=16 * MIB, budget=256 * MIB, limits=S3).next(0) == 0


def test_a_large_known_length_gets_larger_parts_from_the_start() -> None:
    found = sizes(TIB, TIB)
    assert len(found) <= S3.parts
    assert len(set(found[:-1])) == 1


def test_an_unknown_length_grows_to_a_tebibyte_within_the_parts_a_store_takes() -> None:
    found = sizes(None, TIB)
    assert len(found) <= S3.parts
    assert found[0] == 16 * MIB


def test_no_part_is_larger_than_half_of_the_budget() -> None:
    assert max(sizes(None, TIB)) == 128 * MIB


def test_a_declared_size_out_of_reach_is_refused_naming_the_budget() -> None:
    with pytest.raises(TooLarge, match="memory_budget"):
        plan(TIB, framed=True, start=16 * MIB, budget=64 * MIB, limits=S3)


def test_the_largest_size_within_reach_is_taken() -> None:
    reach = 32 * MIB * S3.parts
    assert plan(reach, framed=True, start=MIB, budget=64 * MIB, limits=S3).size == 32 * MIB
    with pytest.raises(TooLarge):
        plan(reach + 1, framed=True, start=MIB, budget=64 * MIB, limits=S3)


def test_more_than_the_store_holds_is_refused() -> None:
    with pytest.raises(TooLarge, match="store"):
        plan(6 * TIB, framed=True, start=16 * MIB, budget=256 * GIB, limits=S3)


def test_a_size_that_only_the_client_says_does_not_end_the_body() -> None:
    cut = plan(20 * MIB, framed=False, start=16 * MIB, budget=256 * MIB, limits=S3)
    assert cut.next(20 * MIB) > 0


def test_a_part_size_below_the_stores_minimum_is_raised_to_it() -> None:
    assert sizes(None, 6 * MIB, start=MIB)[0] == 5 * MIB


@given(
    declared=st.integers(0, 300 * GIB),
    start=st.integers(MIB, 64 * MIB),
    budget=st.integers(64 * MIB, GIB),
)
def test_parts_are_whole_blocks_and_cover_the_body(declared: int, start: int, budget: int) -> None:
    cut = plan(declared, framed=True, start=start, budget=budget, limits=S3)
    assert cut.size % BLOCK == 0
    assert -(-declared // cut.size) <= S3.parts
    assert S3.min_part <= cut.size <= max(budget // 2, S3.min_part)
