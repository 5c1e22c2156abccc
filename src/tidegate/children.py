"""Processes that do not outlive the one that started them."""

import ctypes
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def die_with_parent(number: signal.Signals = signal.SIGKILL) -> None:
    """For ``preexec_fn``: get this signal when the parent is gone (prctl(2), Linux)."""
    _libc.prctl(_PR_SET_PDEATHSIG, number)
