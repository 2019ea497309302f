"""The command `aipartnerupflow`, or another module, as a child of a fork server (`tests/fork_server.py`), which starts sooner.

It is a program, not a module: it imports nothing of ours, to be started in some milliseconds. Signals go to the child,
and its end is the child's.
"""

import json
import os
import signal
import socket
import sys
from pathlib import Path

MOST_BYTES = 1 << 17


def main() -> int:
    """The exit code of the child, negative for a signal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as fork_server:
        fork_server.connect("\0" + os.environ["APFLOW_TEST_FORKS"])
        request = {"words": sys.argv[1:], "env": dict(os.environ), "folder": str(Path.cwd())}
        if module := os.environ.get("APFLOW_TEST_MODULE"):
            request["module"] = module
        if mark := os.environ.get("APFLOW_TEST_SERVER"):
            request["name"] = mark
        socket.send_fds(fork_server, [json.dumps(request).encode()], [0, 1, 2])
        child: int = json.loads(fork_server.recv(MOST_BYTES))
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(child, number))
        return int(json.loads(fork_server.recv(MOST_BYTES)))


if __name__ == "__main__":
    code = main()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)
