"""Named points at which a test may kill the process, off unless ``TIDEGATE_KILL`` is set.

``TIDEGATE_KILL=after_part:0.1`` kills at that point with a probability of 0.1; several are
joined by commas. The kill is SIGKILL: nothing is cleaned up, as when the machine dies.
"""

import os
import random
import signal


def _read(text: str) -> dict[str, float]:
    points = {}
    for item in filter(None, text.split(",")):
        name, _, probability = item.partition(":")
        points[name] = float(probability or 1)
    return points


_POINTS = _read(os.environ.get("TIDEGATE_KILL", ""))


def kill_point(name: str) -> None:
    if _POINTS and random.random() < _POINTS.get(name, 0.0):
        os.kill(os.getpid(), signal.SIGKILL)
