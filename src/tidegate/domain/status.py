"""The life of an image: the one table of statuses, events and transitions.

Nobody else assigns a status. The catalog turns a row of the table into one guarded statement
(``advance``); documents and diagrams are drawn from it.
"""

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    QUEUED = "queued"
    SAVING = "saving"
    UPLOADING = "uploading"
    IMPORTING = "importing"
    ACTIVE = "active"
    DEACTIVATED = "deactivated"
    KILLED = "killed"
    PENDING_DELETE = "pending_delete"
    DELETED = "deleted"


class Event(StrEnum):
    """What happens to an image; each event has one target."""

    UPLOAD = "upload"
    PUBLISH = "publish"
    BREAK = "break"
    RELEASE = "release"
    REFUSE = "refuse"
    REGISTER = "register"
    UNREGISTER = "unregister"
    STAGE = "stage"
    UNSTAGE = "unstage"
    IMPORT = "import"
    FINISH_IMPORT = "finish_import"
    FAIL_IMPORT = "fail_import"
    DEACTIVATE = "deactivate"
    REACTIVATE = "reactivate"
    DELETE = "delete"
    DELETE_LATER = "delete_later"
    SCRUB = "scrub"


class Actor(StrEnum):
    """Who may pull a trigger; what a *user* may do is further decided by policy."""

    USER = "user"
    ATTEMPT = "attempt"  # the upload or task that holds the image's claim
    JANITOR = "janitor"


@dataclass(frozen=True, slots=True)
class Transition:
    sources: frozenset[Status]
    target: Status
    trigger: str
    actors: frozenset[Actor]


def _row(sources: set[Status], target: Status, trigger: str, *actors: Actor) -> Transition:
    return Transition(frozenset(sources), target, trigger, frozenset(actors))


S = Status

TRANSITIONS: dict[Event, Transition] = {
    Event.UPLOAD: _row({S.QUEUED}, S.SAVING, "data PUT or POST", Actor.USER),
    Event.PUBLISH: _row(
        {S.SAVING}, S.ACTIVE, "size and digests match", Actor.ATTEMPT, Actor.JANITOR
    ),
    Event.BREAK: _row({S.SAVING}, S.KILLED, "upload broke", Actor.ATTEMPT, Actor.JANITOR),
    Event.RELEASE: _row(
        {S.SAVING},
        S.QUEUED,
        "upload broke with on_broken = queued, or a copy was stopped",
        Actor.ATTEMPT,
        Actor.JANITOR,
    ),
    Event.REFUSE: _row(
        {S.QUEUED},
        S.KILLED,
        "v1 data of a wrong type, or copy source unreadable",
        Actor.USER,
        Actor.ATTEMPT,
    ),
    Event.REGISTER: _row(
        {S.QUEUED}, S.ACTIVE, "first location, or size 0", Actor.USER, Actor.ATTEMPT
    ),
    Event.UNREGISTER: _row({S.ACTIVE}, S.QUEUED, "last location removed", Actor.USER),
    Event.STAGE: _row({S.QUEUED}, S.UPLOADING, "data staged", Actor.USER),
    Event.UNSTAGE: _row({S.UPLOADING}, S.QUEUED, "staging failed", Actor.ATTEMPT, Actor.JANITOR),
    Event.IMPORT: _row({S.QUEUED, S.UPLOADING}, S.IMPORTING, "import begins", Actor.ATTEMPT),
    Event.FINISH_IMPORT: _row(
        {S.IMPORTING}, S.ACTIVE, "a store holds the data", Actor.ATTEMPT, Actor.JANITOR
    ),
    Event.FAIL_IMPORT: _row({S.IMPORTING}, S.QUEUED, "import failed", Actor.ATTEMPT, Actor.JANITOR),
    Event.DEACTIVATE: _row({S.ACTIVE}, S.DEACTIVATED, "deactivate", Actor.USER, Actor.JANITOR),
    Event.REACTIVATE: _row({S.DEACTIVATED}, S.ACTIVE, "reactivate", Actor.USER),
    Event.DELETE: _row(
        {S.QUEUED, S.SAVING, S.UPLOADING, S.IMPORTING, S.ACTIVE, S.DEACTIVATED, S.KILLED},
        S.DELETED,
        "delete",
        Actor.USER,
    ),
    Event.DELETE_LATER: _row(
        {S.ACTIVE, S.DEACTIVATED}, S.PENDING_DELETE, "delete, delayed, has data", Actor.USER
    ),
    Event.SCRUB: _row({S.PENDING_DELETE}, S.DELETED, "data removed", Actor.JANITOR),
}

WHEN_BROKEN = {"killed": Event.BREAK, "queued": Event.RELEASE}
"""What ends the upload of an image that breaks, by what ``[uploads] on_broken`` says."""

INITIAL = frozenset({S.QUEUED, S.ACTIVE})
"""An image is born queued, or active when its size is explicitly 0 or it comes with a location."""

GONE = frozenset({S.PENDING_DELETE, S.DELETED})
"""Statuses in which an image is not found by any call."""

FORMATS_OPEN = frozenset({S.QUEUED, S.IMPORTING})
"""Statuses in which disk and container format may still change."""


def target(event: Event) -> Status:
    return TRANSITIONS[event].target


def allowed(event: Event, status: Status) -> bool:
    return status in TRANSITIONS[event].sources
