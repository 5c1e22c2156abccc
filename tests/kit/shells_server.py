"""Runs commands of the clients, each in a fork of this process, as its own program: run by the
Python that has them.

The argument is the number of a socket. A message is a command and what to add to the environment,
and comes with the three streams; the answer is the exit code.
"""

import gc
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from importlib import import_module
from importlib.metadata import entry_points

from cliff import command

ASKS = int(sys.argv[1])
sys.argv = ["openstack"]  # which some take for their name as they are imported

# what the commands look for and import, sooner or later
for group in entry_points().groups:
    if group.startswith(("openstack.", "cliff.")):
        for point in entry_points(group=group):
            with suppress(ImportError):
                point.load()
for name in ("glanceclient.v2.client", "glanceclient.v2.shell", "openstack.image.v2._proxy"):
    import_module(name)
with suppress(AttributeError):
    command._get_distributions_by_modules()  # which each would do again

MAINS = {
    "openstack": import_module("openstackclient.shell").main,
    "glance": import_module("glanceclient.shell").main,
}


gc.freeze()  # a collection would look at, and so copy, all of it in each fork


def main(asked):
    while True:
        message, streams, _, _ = socket.recv_fds(asked, 2**20, 3)
        if not message:
            return None
        ask = json.loads(message)
        pid = os.fork()
        if pid == 0:
            asked.close()
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
                os.close(stream)
            os.environ.update(ask["environ"])
            sys.argv = ask["command"]
            signal.alarm(60)  # its end, if it hangs
            return MAINS[sys.argv[0]]()
        for stream in streams:
            os.close(stream)
        _, status = os.waitpid(pid, 0)
        asked.send(b"%d" % os.waitstatus_to_exitcode(status))


sys.exit(main(socket.socket(fileno=ASKS)))
