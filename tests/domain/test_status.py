import pytest

from tidegate.domain.status import GONE, INITIAL, TRANSITIONS, Actor, Event, Status, allowed, target
from tidegate.domain.task import TASK_TRANSITIONS, TaskStatus

S = Status

EDGES = {
    (S.QUEUED, S.SAVING), (S.SAVING, S.ACTIVE), (S.SAVING, S.KILLED), (S.SAVING, S.QUEUED),
    (S.QUEUED, S.KILLED), (S.QUEUED, S.ACTIVE), (S.ACTIVE, S.QUEUED), (S.QUEUED, S.UPLOADING),
    (S.UPLOADING, S.QUEUED), (S.QUEUED, S.IMPORTING), (S.UPLOADING, S.IMPORTING),
    (S.IMPORTING, S.ACTIVE), (S.IMPORTING, S.QUEUED), (S.ACTIVE, S.DEACTIVATED),
    (S.DEACTIVATED, S.ACTIVE), (S.QUEUED, S.DELETED), (S.SAVING, S.DELETED),
    (S.UPLOADING, S.DELETED), (S.IMPORTING, S.DELETED), (S.ACTIVE, S.DELETED),
    (S.DEACTIVATED, S.DELETED), (S.KILLED, S.DELETED), (S.ACTIVE, S.PENDING_DELETE),
    (S.DEACTIVATED, S.PENDING_DELETE), (S.PENDING_DELETE, S.DELETED),
}  # fmt: skip
"""Written out once more, so that an edge cannot slip in or out unseen."""


def test_the_table_has_these_edges_and_no_other() -> None:
    found = {(source, row.target) for row in TRANSITIONS.values() for source in row.sources}
    assert found == EDGES


@pytest.mark.parametrize("event", Event)
def test_an_event_is_allowed_from_its_sources_alone(event: Event) -> None:
    row = TRANSITIONS[event]
    assert {status for status in Status if allowed(event, status)} == row.sources
    assert target(event) is row.target
    assert row.trigger
    assert row.actors <= set(Actor)


def test_nothing_leaves_deleted() -> None:
    assert not [event for event in Event if allowed(event, S.DELETED)]


def test_what_waits_for_deletion_can_only_be_deleted() -> None:
    assert [event for event in Event if allowed(event, S.PENDING_DELETE)] == [Event.SCRUB]


def test_no_user_event_leads_into_active_from_saving() -> None:
    events = [event for event in Event if allowed(event, S.SAVING) and target(event) is S.ACTIVE]
    assert all(Actor.USER not in TRANSITIONS[event].actors for event in events)


def test_an_image_is_born_queued_or_active() -> None:
    assert {S.QUEUED, S.ACTIVE} == INITIAL
    assert not INITIAL & GONE


def test_a_task_passes_through_processing() -> None:
    ends = {TaskStatus.SUCCESS, TaskStatus.FAILURE}
    for sources, end in TASK_TRANSITIONS.values():
        assert (sources == {TaskStatus.PROCESSING}) == (end in ends)
