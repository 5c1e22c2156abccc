"""Drive the model for many steps: ``python -m tests.model.run --steps 100000``."""

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.model.ground import Ground
from tests.model.machine import Life
from tests.model.world import World

from tidegate.seaweedfs import SeaweedFS

RUNS_AT_A_TIME = 10
STEPS_OF_A_RUN = 100


def drive(
    world: World, steps: int, first_seed: int, say: Callable[[str], None], *, shrink: bool = False
) -> None:
    """At least so many steps; the seed of a failure is said, and repeats it. ``shrink``: look for
    a shorter way to it, which takes minutes."""
    Ground.world, Ground.steps = world, 0
    _tell(say)
    found = settings(
        max_examples=RUNS_AT_A_TIME,
        stateful_step_count=STEPS_OF_A_RUN,
        deadline=None,
        database=None,
        phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
        print_blob=False,
    )
    number = first_seed
    while Ground.steps < steps:
        say(f"seed {number}, {Ground.steps} steps")
        run_state_machine_as_test(seed(number)(Life), settings=found)
        number += 1


def _tell(say: Callable[[str], None]) -> None:
    """Have each failure said when it happens: of a race, hypothesis repeats in vain."""

    def telling(step: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(step)
        def told(machine: Life, **drawn: Any) -> Any:
            try:
                return step(machine, **drawn)
            except AssertionError:
                say(traceback.format_exc())
                raise

        return told

    for name in dir(Life):
        for mark in ("hypothesis_stateful_rule", "hypothesis_stateful_invariant"):
            one = getattr(getattr(Life, name), mark, None)
            if one is not None and not hasattr(one.function, "__wrapped__"):
                object.__setattr__(one, "function", telling(one.function))


def say(text: str) -> None:
    print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--shrink", action="store_true", help="a failure to its shortest way")
    arguments = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with SeaweedFS(folder / "s3") as storage, World(storage, folder) as world:
            drive(world, arguments.steps, arguments.seed, say, shrink=arguments.shrink)
    seconds = time.monotonic() - begun
    print(f"{Ground.steps} steps in {seconds:.0f} s: {Ground.steps / seconds:.0f} a second")
    return 0


if __name__ == "__main__":
    sys.exit(main())
