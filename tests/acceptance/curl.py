"""`curl` for machines that have none: `python -m tests.acceptance.curl ARGUMENTS` prints what the server answers."""

import shlex
import sys

import httpx

from tests.curl import request_of

if __name__ == "__main__":
    with httpx.Client(timeout=60) as client:
        sys.stdout.write(client.send(request_of(shlex.join(["curl", *sys.argv[1:]]), base_url="")).text)
