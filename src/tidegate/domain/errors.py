"""What can go wrong, said once.

The tree (an answer is looked up by the nearest ancestor, in ``api/errors.py``)::

    TidegateError
    ├── Invalid                 the request itself is wrong
    │   ├── SizeMismatch        other bytes than announced came
    │   ├── DigestMismatch      other bytes than the client hashed came
    │   └── LocationRefused     a URL that may not be registered or fetched
    ├── Unauthenticated         no or a bad token
    ├── Forbidden               known caller, not allowed
    │   └── Unverified          data that was never read here is not made public
    ├── NotFound                absent, or not for this caller's eyes
    │   └── NoData              the image has no bytes to read; says why
    ├── Conflict                the request does not fit the present state
    │   └── BadTransition       an event the image's status does not allow
    │       └── AttemptLost     somebody else settles this attempt, or has settled it
    ├── Gone                    the image was deleted while the request ran
    ├── AddingDisabled          the store that was asked for never takes data
    ├── TooLarge                past a size, a quota or a limit
    ├── RangeRefused            no byte of the image lies in the asked range
    ├── Unsupported             a media type or encoding we do not take
    │   ├── WrongFormat         data of another format than the image's
    │   └── UnsafeFormat        data that points outside itself, or otherwise harms who opens it
    ├── ClientGone              the client broke its own request body
    │   └── ClientStalled       … by sending nothing, or next to nothing, for too long
    ├── SourceBroke             what is copied from elsewhere broke off, or changed
    ├── TargetBroke             where an image is exported to broke off
    │   └── TargetRefused       … and says that it always will
    ├── Busy                    too much at once: come again (never after data was taken)
    ├── Draining                this worker is stopping
    ├── CatalogDown             the catalog cannot be reached, or is locked
    ├── IdentityDown            nobody can say now who calls
    └── StoreError              a store failed; names it
        ├── StoreDown           not reachable, or not willing now
        ├── StoreBroke          failed in the middle of data
        │   └── CallMissing     does not know what it is asked to do
        ├── StoreFull           no room
        ├── StoreReadOnly       does not take data at all
        ├── NotCopied           does not copy one of its objects: the bytes have to be read
        ├── BadPart             a part arrived at the store with other bytes (safe to send again)
        ├── ObjectMissing       no object under this key
        │   └── UploadMissing   no upload of this id
        └── ObjectChanged       the object is not the one that was written
"""


def first_failure(error: BaseException) -> BaseException:
    """Of a task group's failures the one that came first; the others are its echoes."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


class TidegateError(Exception):
    """Base of all errors of ours; its text is written for the person who sent the request."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class Invalid(TidegateError):
    pass


class SizeMismatch(Invalid):
    def __init__(self, expected: int, received: int) -> None:
        super().__init__(
            f"Size mismatch: {expected} bytes were announced and {received} bytes came."
        )
        self.expected = expected
        self.received = received


class DigestMismatch(Invalid):
    def __init__(self, algorithm: str, expected: str, computed: str) -> None:
        super().__init__(
            f"The {algorithm} digest announced for the data ({expected}) is not the digest "
            f"of the bytes that came ({computed})."
        )


class LocationRefused(Invalid):
    pass


class Unauthenticated(TidegateError):
    """``challenge``: how a client may say who it is, for ``WWW-Authenticate``."""

    def __init__(self, message: str, challenge: str = "") -> None:
        super().__init__(message)
        self.challenge = challenge


class Forbidden(TidegateError):
    pass


class Unverified(Forbidden):
    def __init__(self) -> None:
        super().__init__(
            "The image cannot be public: its digests are of data that was registered by URL, and "
            "this server has not read it. Register it by POST of /locations with validation_data, "
            "or have the operator run `tidegate scrub`."
        )


class NotFound(TidegateError):
    pass


class NoData(NotFound):
    pass


class Conflict(TidegateError):
    pass


class BadTransition(Conflict):
    """``status`` is where the image was when the event was refused; None: not known."""

    def __init__(self, message: str, status: str | None = None) -> None:
        super().__init__(message)
        self.status = status


class AttemptLost(BadTransition):
    pass


class Gone(TidegateError):
    pass


class AddingDisabled(TidegateError):
    pass


class TooLarge(TidegateError):
    pass


class RangeRefused(TidegateError):
    def __init__(self, message: str, size: int) -> None:
        super().__init__(message)
        self.size = size


class Unsupported(TidegateError):
    pass


class WrongFormat(Unsupported):
    def __init__(self, declared: str, found: str) -> None:
        super().__init__(f"The image's disk_format is {declared}, but its data is {found}.")


class UnsafeFormat(Unsupported):
    pass


class ClientGone(TidegateError):
    pass


class ClientStalled(ClientGone):
    pass


class SourceBroke(TidegateError):
    pass


class TargetBroke(TidegateError):
    pass


class TargetRefused(TargetBroke):
    pass


class Busy(TidegateError):
    def __init__(self, message: str, retry_after: int = 5) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Draining(Busy):
    pass


class CatalogDown(TidegateError):
    pass


class IdentityDown(TidegateError):
    pass


class StoreError(TidegateError):
    """``store`` is the store's id; never an address, a bucket or a secret in the text."""

    def __init__(self, store: str, message: str) -> None:
        super().__init__(f"Store {store!r}: {message}")
        self.store = store
        self.reason = message


class StoreDown(StoreError):
    pass


class StoreBroke(StoreError):
    pass


class CallMissing(StoreBroke):
    pass


class StoreFull(StoreError):
    pass


class StoreReadOnly(StoreError):
    pass


class NotCopied(StoreError):
    pass


class BadPart(StoreError):
    pass


class ObjectMissing(StoreError):
    pass


class UploadMissing(ObjectMissing):
    pass


class ObjectChanged(StoreError):
    pass
