"""An Ethernet switch in user space, whose cables can be cut, slow or lossy in each direction.

    python -m tests.faults.switch PORT...

A TAP device is made for each port; the other end is the switch. It says `ready`, and forwards once it
has read a line, when the devices are up. Then it reads commands, one JSON list a line:
`[port, direction, loss, delay, jitter]`, where `direction` is `out` (from
the device into the switch) or `in`, `loss` a share of the frames, and the times are in seconds. It
ends when its input does. Needs root and /dev/net/tun, but no kernel module for traffic control.
"""

import fcntl
import heapq
import json
import os
import random
import selectors
import struct
import sys
import time
from dataclasses import dataclass, field
from typing import Final

TUNSETIFF: Final = 0x400454CA
IFF_TAP: Final = 0x0002
IFF_NO_PI: Final = 0x1000
"""The frame only, without a header before it."""
LARGEST_FRAME: Final = 65_536
GROUP_BIT: Final = 1
"""Of the first byte of an address: broadcast or multicast."""


@dataclass(slots=True)
class Line:
    """One direction of a cable."""

    loss: float = 0.0
    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    free_at: float = 0.0

    def due(self, now: float) -> float | None:
        """When a frame that is sent now arrives; None if it is lost. Frames keep their order."""
        if self.loss and random.random() < self.loss:
            return None
        jitter = random.uniform(-self.jitter_seconds, self.jitter_seconds)
        self.free_at = max(self.free_at, now + self.delay_seconds + jitter)
        return self.free_at


@dataclass(frozen=True, slots=True)
class Port:
    file: int
    out: Line = field(default_factory=Line)
    into: Line = field(default_factory=Line)


class Switch:
    """Forwards frames to the port where their receiver was last seen, and to all ports before."""

    def __init__(self, names: list[str]) -> None:
        self._commands = os.fdopen(0, "rb", buffering=0)
        self._ports = {name: Port(tap(name)) for name in names}
        self._seen: dict[bytes, Port] = {}
        self._waiting: list[tuple[float, int, int, bytes]] = []
        self._count = 0

    def wait(self) -> None:
        self._commands.readline()

    def run(self) -> None:
        selector = selectors.DefaultSelector()
        selector.register(self._commands, selectors.EVENT_READ)
        for port in self._ports.values():
            selector.register(port.file, selectors.EVENT_READ, port)
        while True:
            for key, _ in selector.select(self._seconds_to_next()):
                if key.data is None:
                    if not (line := self._commands.readline()):
                        return
                    self._obey(json.loads(line))
                else:
                    self._take(key.data)
            self._deliver()

    def _obey(self, command: tuple[str, str, float, float, float]) -> None:
        name, direction, loss, delay, jitter = command
        port = self._ports[name]
        line = port.out if direction == "out" else port.into
        line.loss, line.delay_seconds, line.jitter_seconds, line.free_at = loss, delay, jitter, 0.0

    def _take(self, sender: Port) -> None:
        frame = os.read(sender.file, LARGEST_FRAME)
        arrives_at = sender.out.due(time.monotonic())
        if arrives_at is None:
            return
        self._seen[frame[6:12]] = sender
        is_for_all = frame[0] & GROUP_BIT or frame[:6] not in self._seen
        receivers = self._ports.values() if is_for_all else [self._seen[frame[:6]]]
        for receiver in receivers:
            due = None if receiver is sender else receiver.into.due(arrives_at)
            if due is not None:
                self._count += 1
                heapq.heappush(self._waiting, (due, self._count, receiver.file, frame))

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._waiting and self._waiting[0][0] <= now:
            *_, file, frame = heapq.heappop(self._waiting)
            try:
                os.write(file, frame)
            except OSError:  # the device is down, or its host is gone
                continue

    def _seconds_to_next(self) -> float | None:
        return max(0.0, self._waiting[0][0] - time.monotonic()) if self._waiting else None


def tap(name: str) -> int:
    """The file of a new TAP device."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, TUNSETIFF, struct.pack("16sH22s", name.encode(), IFF_TAP | IFF_NO_PI, b""))
    return file


if __name__ == "__main__":
    switch = Switch(sys.argv[1:])
    print("ready", flush=True)  # noqa: T201
    switch.wait()
    switch.run()
