"""Run by itself, in a process of its own: becomes another program, within limits.

``confined.py PARENT CPU MEMORY FILE PROGRAM ARGUMENTS…``: seconds of CPU, bytes of address space,
bytes of the largest file. The program dies with the process PARENT, and has no network where the
kernel lets us take it away.
"""

import ctypes
import os
import resource
import signal
import sys

_PR_SET_PDEATHSIG = 1
_STACK = 2**20  # of each thread, and how many it has is chance
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def main(parent: int, cpu: int, memory: int, file: int, *command: str) -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    if libc.unshare(_CLONE_NEWNET) != 0:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file, file))
    resource.setrlimit(resource.RLIMIT_STACK, (_STACK, _STACK))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    os.execv(command[0], command)  # noqa: S606


if __name__ == "__main__":
    _parent, _cpu, _memory, _file = map(int, sys.argv[1:5])
    main(_parent, _cpu, _memory, _file, *sys.argv[5:])
