"""What is said of an attempt that broke: to its owner by a record, to the client by an answer."""

import asyncio

from tidegate.domain.errors import (
    BadTransition,
    CatalogDown,
    ClientGone,
    ClientStalled,
    DigestMismatch,
    Gone,
    NotCopied,
    SizeMismatch,
    SourceBroke,
    StoreBroke,
    StoreDown,
    StoreError,
    TidegateError,
    TooLarge,
    UnsafeFormat,
    WrongFormat,
)
from tidegate.domain.status import GONE
from tidegate.domain.upload import NOT_COPIED, Failure


def failure_of(error: BaseException, where: str, request_id: str | None) -> Failure:
    """The record of a broken attempt: ``where`` is the step that failed."""
    reasons: list[tuple[type[BaseException], str]] = [
        (ClientStalled, "client_stalled"),
        (ClientGone, "client_gone"),
        (SizeMismatch, "size_mismatch"),
        (DigestMismatch, "digest_mismatch"),
        (SourceBroke, "source"),
        (TooLarge, "too_large"),
        (WrongFormat, "wrong_format"),
        (UnsafeFormat, "unsafe_format"),
        (NotCopied, NOT_COPIED),
        (StoreError, "store"),
        (CatalogDown, "catalog"),
        (asyncio.CancelledError, "drained"),
    ]
    if isinstance(error, BadTransition):
        reason = "deleted" if error.status in GONE else "taken_over"
    else:
        reason = next((word for kind, word in reasons if isinstance(error, kind)), "internal")
    message = error.message if isinstance(error, TidegateError) else ""
    if reason == "drained":
        message = "The server was stopped while the data came."
    return Failure(reason, where, message or "An internal error.", request_id)


def answer_to(error: BaseException, failure: Failure) -> BaseException:
    """What the client is told; 503 is never among it, since clients send a consumed body again."""
    if isinstance(error, BadTransition) and failure.reason == "deleted":
        return Gone("The image was deleted while its data came; the data was removed.")
    if isinstance(error, StoreDown):
        return StoreBroke(error.store, error.reason)
    return error
