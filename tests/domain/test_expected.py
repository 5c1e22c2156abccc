"""What data must be like, and whether it is."""

import pytest

from tidegate.domain.errors import DigestMismatch, SizeMismatch
from tidegate.domain.expected import Expected, can_compute, expected_of, verify
from tidegate.domain.image import Image
from tidegate.domain.upload import Sent

SENT = Sent(5, {"md5": "aa", "sha512": "bb"})


@pytest.mark.parametrize(("length", "size", "total"), [(None, None, None), (3, None, 3), (3, 5, 5)])
def test_what_was_announced_counts_more_than_the_framing(
    length: int | None, size: int | None, total: int | None
) -> None:
    assert Expected(length=length, size=size).total == total


def test_what_nobody_announced_is_right() -> None:
    verify(SENT, Expected())
    verify(SENT, Expected(size=5, digests={"md5": "aa"}))


def test_other_bytes_are_told_by_size_and_digest() -> None:
    with pytest.raises(SizeMismatch):
        verify(SENT, Expected(size=4))
    with pytest.raises(DigestMismatch):
        verify(SENT, Expected(digests={"sha512": "cc"}))


@pytest.mark.parametrize(("name", "can"), [("sha512", True), ("shake_128", False), ("x", False)])
def test_digests_have_one_size(name: str, can: bool) -> None:
    assert can_compute(name) is can


def test_of_an_image_what_it_has_and_can_be_computed() -> None:
    image = Image(id="i", size=5, checksum="aa", hash_algo="shake_128", hash_value="bb")
    assert expected_of(image, 7) == Expected(length=7, size=5, digests={"md5": "aa"})
