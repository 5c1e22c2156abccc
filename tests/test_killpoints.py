"""Named points at which a test may kill the process, and nobody else."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import tidegate
from tidegate.killpoints import kill_point

ROOT = Path(tidegate.__file__).parent
POINTS = {
    "before_claim", "after_claim", "after_create", "after_create_recorded", "after_part",
    "before_complete", "after_complete", "after_verify", "before_commit", "after_commit",
    "answer_half_sent", "abort_mid", "del_committed", "del_store_done", "reap_mid",
    "repair_started", "repair_copied", "repair_swapped", "adopt_read",
    "scrub_mid", "scrub_removed", "purge_mid", "copy_dropping",
    "location_asked", "location_begun", "location_registered", "location_verified",
    "location_measured",
    "before_task", "task_claimed", "task_image_named", "task_image_made", "task_refusing",
    "task_removing", "task_failing", "task_done_uncommitted",
    "import_begun", "import_noted", "staged_published",
    "export_claimed", "export_completing", "export_aborted", "export_tidied", "export_sending",
    "conversion_fetched", "conversion_made",
    "cache_half_filled", "cache_whole", "cache_published", "cache_evicting",
}  # fmt: skip


def process(value: str, *points: str) -> subprocess.CompletedProcess[bytes]:
    """One that comes to these points and then says that it is through."""
    lines = ["from tidegate.killpoints import kill_point", *(f"kill_point({p!r})" for p in points)]
    return subprocess.run(
        [sys.executable, "-c", "\n".join([*lines, "print('through')"])],
        env={**os.environ, "TIDEGATE_KILL": value}, capture_output=True, timeout=30, check=False,
    )  # fmt: skip


def test_without_the_variable_nothing_is_killed() -> None:
    assert "TIDEGATE_KILL" not in os.environ
    for point in POINTS:
        kill_point(point)


@pytest.mark.parametrize("value", ["after_part", "after_part:1", "x:0,after_part:1.0"])
def test_at_its_point_the_process_dies_as_if_its_machine_did(value: str) -> None:
    done = process(value, "before_claim", "after_part")
    assert done.returncode == -signal.SIGKILL
    assert done.stdout == b""


@pytest.mark.parametrize("value", ["", "after_part:0", "another_point:1"])
def test_elsewhere_it_lives(value: str) -> None:
    assert process(value, "after_part").stdout == b"through\n"


def test_a_probability_kills_some() -> None:
    # 1 of 10^24 runs comes through
    assert process("after_part:0.5", *["after_part"] * 80).returncode == -signal.SIGKILL


@pytest.mark.parametrize("value", ["after_part:often", "after_part:"])
def test_what_is_no_probability(value: str) -> None:
    done = process(value, "after_part")
    assert done.stdout == b""
    assert done.returncode != 0


def test_every_named_point_is_in_the_code_and_no_other() -> None:
    calls = re.compile(r'kill_point\("(\w+)"\)')
    found = {name for path in ROOT.rglob("*.py") for name in calls.findall(path.read_text())}
    assert found == POINTS
