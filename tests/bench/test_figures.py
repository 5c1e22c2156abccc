import os
import subprocess
import sys

import pytest

from tidegate.bench.figures import GIB, Figure, median
from tidegate.bench.scenarios import LOADS, Load
from tidegate.bench.usage import Processes, cpu_of, exists


def test_rates_and_costs_belong_to_the_work() -> None:
    figure = Figure("x", seconds=2.0, bytes=GIB // 2, latencies=[0.5] * 4, gateway_cpu=1.0)
    assert figure.megabytes_per_second == pytest.approx(268.435456)
    assert figure.operations_per_second == 2.0
    assert figure.cpu_per_gib == 2.0
    assert figure.cpu_per_operation == 0.25


def test_what_is_not_known_is_none() -> None:
    figure = Figure("x", seconds=2.0, latencies=[0.5])
    assert figure.megabytes_per_second is None
    assert figure.cpu_per_gib is None
    assert figure.cpu_per_operation is None


def test_latencies_are_those_of_the_share() -> None:
    figure = Figure("x", latencies=[float(value) for value in range(99, -1, -1)])
    assert [figure.latency(share) for share in (0, 0.5, 0.95, 0.99, 1)] == [0, 50, 95, 99, 99]


def test_one_after_the_other_is_the_sum() -> None:
    one = Figure("x", 1.0, 0, [0.1, 0.2], 0.1, 0.5, 10)
    two = Figure("y", 2.0, 0, [0.3, 0.1], 0.2, 0.5, 7)
    assert one.followed_by(two) == Figure(
        "x", 3.0, 0, [0.4, pytest.approx(0.3)], pytest.approx(0.3), 1.0, 10
    )


def test_a_median_is_one_of_the_repetitions() -> None:
    figures = [Figure("x", seconds=seconds) for seconds in (3.0, 1.0, 2.0)]
    assert median(figures) is figures[2]
    assert median(figures[:2]) is figures[1]


def test_large_images_shrink_and_many_become_fewer() -> None:
    assert LOADS["8x256m"].scaled(0.5) == Load(8, 128 * 2**20, 8)
    assert LOADS["200x1m"].scaled(0.02) == Load(4, 2**20, 4)
    assert LOADS["1g"].scaled(1e-12) == Load(1, 1, 1)
    assert all(load.scaled(1) == load for load in LOADS.values())


def test_a_process_is_seen_with_its_descendants() -> None:
    program = "import subprocess; subprocess.run(['cat'])"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        parent.stdin.write(b"x")
        parent.stdin.flush()
        parent.stdout.read(1)  # so the child is there
        processes = Processes(parent.pid)
        found = processes.all()
        assert found[0] == parent.pid
        assert len(found) == 2
        assert processes.cpu() > cpu_of(found[1]) > 0
        assert all(memory.peak >= memory.now > 0 for memory in processes.memory().values())
        assert len(processes.memory()) == 2
        processes.forget_peaks()
        assert processes.peak() > 0
    assert not exists(parent.pid)
    assert processes.cpu() == 0
    assert processes.memory() == {}


def test_cpu_time_grows_with_work() -> None:
    processes = Processes(os.getpid())
    before = processes.cpu()
    sum(range(200_000))
    assert processes.cpu() > before
