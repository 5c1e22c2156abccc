from uuid import uuid4

import pytest

from tidegate.domain.task import TASK_TRANSITIONS, Task, TaskEvent, TaskStatus, TaskType

S = TaskStatus

EDGES = {(S.PENDING, S.PROCESSING), (S.PROCESSING, S.SUCCESS), (S.PROCESSING, S.FAILURE)}
"""Written out once more, so that an edge cannot slip in or out unseen."""


def held(task_id: str, fence: int) -> Task:
    return Task(id=task_id, type=TaskType.IMPORT, fence=fence)


def test_the_table_has_these_edges_and_no_other() -> None:
    found = {(source, end) for sources, end in TASK_TRANSITIONS.values() for source in sources}
    assert found == EDGES
    assert set(TASK_TRANSITIONS) == set(TaskEvent)


def test_a_holder_knows_the_uploads_of_those_before_it() -> None:
    task_id = str(uuid4())
    names = [held(task_id, fence).attempt for fence in (1, 2, 3)]
    assert len(set(names)) == 3
    assert held(task_id, 3).attempts == frozenset(names)
    assert held(task_id, 0).attempts == frozenset()


def test_two_tasks_have_no_upload_in_common() -> None:
    assert not held(str(uuid4()), 3).attempts & held(str(uuid4()), 3).attempts


@pytest.mark.parametrize("fence", [1, 7])
def test_an_uploads_id_is_of_the_form_of_all_others(fence: int) -> None:
    name = held(str(uuid4()), fence).attempt
    assert len(name) == 32
    assert set(name) <= set("0123456789abcdef")
