"""The messages between a worker and a nursery: a letter, the number of a process, and its exit code."""

import struct
from typing import Final

ORDER: Final = struct.Struct("!cIi")
FORK: Final = b"F"
"""Comes with the descriptors of a socket for the new process and of a pipe for what it prints."""
KILL: Final = b"K"
ENDED: Final = b"E"
"""A message of the nursery. The exit code is negative for a signal."""
