"""The output of a container: the frames of the daemon's stream, as far as the limit allows."""

from collections.abc import Callable
from typing import Final

from tasks.executors.command.guarded_process import LineLog, text_of

HEADER_BYTES: Final = 8
"""One byte for the stream, three that are zero, and the size of the payload in four."""


class Output:
    """The standard output and error of a container, in the order of their arrival. The first lines are published."""

    def __init__(self, *, most_bytes: int, log: Callable[[str], None]) -> None:
        self.is_flooding = False
        self._kept = bytearray()
        self._most_bytes = most_bytes
        self._lines = LineLog(log)
        self._header = b""
        self._left = 0

    @property
    def text(self) -> str:
        return text_of(self._kept)

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the stream, which may end anywhere."""
        payload = self._payload(chunk)
        room = self._most_bytes - len(self._kept)
        self.is_flooding = self.is_flooding or len(payload) > room
        self._kept += payload[:room]
        self._lines.feed(payload[:room])

    def close(self) -> None:
        """Publish a last line without a line end."""
        self._lines.close()

    def _payload(self, chunk: bytes) -> bytes:
        data, at, parts = self._header + chunk, 0, []
        while at < len(data):
            if self._left:
                part = data[at : at + self._left]
                parts.append(part)
                at += len(part)
                self._left -= len(part)
            elif len(data) - at < HEADER_BYTES:
                break
            else:
                self._left = int.from_bytes(data[at + 4 : at + HEADER_BYTES], "big")
                at += HEADER_BYTES
        self._header = data[at:]
        return b"".join(parts)
