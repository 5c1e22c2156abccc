"""Every error has its answer, and data is never answered 503."""

import pytest

from tidegate.api.errors import ANSWERS, status_of
from tidegate.domain import errors as e


def kinds(root: type[e.TidegateError] = e.TidegateError) -> list[type[e.TidegateError]]:
    return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]


def made(kind: type[e.TidegateError]) -> e.TidegateError:
    """One of this kind."""
    if issubclass(kind, e.StoreError):
        return kind("main", "it answered 500")
    if kind is e.SizeMismatch:
        return e.SizeMismatch(3, 4)
    if kind is e.DigestMismatch:
        return e.DigestMismatch("md5", "a", "b")
    if kind is e.WrongFormat:
        return e.WrongFormat("qcow2", "raw")
    if kind is e.Unverified:
        return e.Unverified()
    if kind is e.RangeRefused:
        return e.RangeRefused("no such range", 10)
    return kind("for the person who asked")


@pytest.mark.parametrize("kind", kinds())
def test_every_error_finds_a_row_of_its_own_branch(kind: type[e.TidegateError]) -> None:
    row = next(ancestor for ancestor in kind.__mro__ if ancestor in ANSWERS)
    # the root's row is for what nobody thought of
    assert kind is e.TidegateError or row is not e.TidegateError


@pytest.mark.parametrize("kind", kinds())
def test_data_is_never_answered_503(kind: type[e.TidegateError]) -> None:
    assert status_of(made(kind), carries_data=True) != 503


@pytest.mark.parametrize("kind", kinds())
def test_only_what_may_pass_by_itself_is_answered_503(kind: type[e.TidegateError]) -> None:
    passing = issubclass(kind, e.StoreDown | e.CatalogDown | e.IdentityDown)
    assert (status_of(made(kind), carries_data=False) == 503) is passing


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (e.Invalid, 400), (e.SizeMismatch, 400), (e.DigestMismatch, 400), (e.LocationRefused, 400),
        (e.ClientGone, 400), (e.Unauthenticated, 401), (e.Forbidden, 403), (e.NotFound, 404),
        (e.NoData, 404), (e.ClientStalled, 408), (e.Conflict, 409), (e.BadTransition, 409),
        (e.AttemptLost, 409), (e.Gone, 410), (e.TooLarge, 413), (e.StoreFull, 413),
        (e.Unsupported, 415), (e.RangeRefused, 416), (e.Busy, 429), (e.Draining, 429),
        (e.TidegateError, 500), (e.StoreError, 502), (e.StoreBroke, 502), (e.StoreReadOnly, 502),
        (e.BadPart, 502), (e.ObjectMissing, 502), (e.ObjectChanged, 502), (e.StoreDown, 503),
        (e.CatalogDown, 503), (e.SourceBroke, 502), (e.IdentityDown, 503), (e.WrongFormat, 415),
        (e.UnsafeFormat, 415), (e.TargetBroke, 502), (e.TargetRefused, 502),
        (e.NotCopied, 502), (e.CallMissing, 502), (e.UploadMissing, 502),
        (e.Unverified, 403),
        (e.AddingDisabled, 410),
    ],
)  # fmt: skip
def test_what_is_answered(kind: type[e.TidegateError], status: int) -> None:
    assert status_of(made(kind), carries_data=False) == status
    assert status_of(made(kind), carries_data=True) == (502 if status == 503 else status)


def test_the_table_above_is_whole() -> None:
    mark = next(
        mark
        for mark in test_what_is_answered.pytestmark
        if mark.name == "parametrize"  # type: ignore[attr-defined]
    )
    assert {kind for kind, _ in mark.args[1]} == set(kinds())
