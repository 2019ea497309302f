"""Prints of tasks in the processes of a pool: lines of the server's log with the ids of the task, and not too many."""

import logging
import os
import re
import select
import time
from contextvars import Context, copy_context
from threading import Lock, Thread
from typing import Final

from llmkeys.masker import masked_here
from tasks.telemetry.tracing import add_log_ids

MOST_BYTES: Final = 64 * 2**10
"""The size of what is logged of one task."""
LINE_BYTES: Final = 100
"""The size of what the log adds to each line, which counts, too."""
SHOWN_CHARACTERS: Final = 4_000
"""The part of a line that is logged."""
KEPT_BYTES: Final = 16_000
"""The part of a line that is read, so that a secret is masked that ends after what is shown."""
READ_BYTES: Final = 64 * 2**10
MOST_READS: Final = 32
"""The number of reads at the end of a task. A pipe holds the bytes of one, unless the task has enlarged it."""
PAUSE_SECONDS: Final = 0.002
"""The pause between two reads of what is dropped: a flood takes little time from the worker, and its task prints 32 MB a second."""
ENDS: Final = re.compile(rb"[\r\n]+")
DROPPED: Final = (
    f"The task has printed {MOST_BYTES // 2**10} KB. What it prints after this is not logged: write it to a file."
)
logger = logging.getLogger(__name__)


class Prints:
    """The output of one process. A thread reads it, since the log may be slow and must not hold up the worker's event loop."""

    def __init__(self) -> None:
        self._ours, self.theirs = os.pipe()
        os.set_blocking(self._ours, False)
        self._lock = Lock()
        self._is_open = True
        self._task = _Printed(Context())
        self._at_hand = self._poll()
        Thread(target=self._follow, name="prints", daemon=True).start()

    def begin(self, *, run_id: str, task_id: str) -> None:
        """Log from here on for this task, which is the one that the current code works for."""
        variables = copy_context()
        variables.run(add_log_ids, run=run_id, task=task_id)
        self._task = _Printed(variables)

    @property
    def is_logged(self) -> bool:
        """Whether nothing is left to log. It never waits."""
        return not (self._lock.locked() or self._task.is_in_line or self._at_hand.poll(0))

    def finish(self) -> bool:
        """Log what the task has printed to its end. False: something in the process still prints."""
        with self._lock:
            is_over = any(not self._read() for _ in range(MOST_READS))
            self._task.end_line()
        return is_over

    def _follow(self) -> None:
        arriving = self._poll()
        while self._is_open:
            arriving.poll()
            with self._lock:
                self._read()
            if self._task.is_full:
                time.sleep(PAUSE_SECONDS)
        with self._lock:
            self._task.end_line()
            os.close(self._ours)

    def _poll(self) -> select.poll:
        poll = select.poll()
        poll.register(self._ours, select.POLLIN)
        return poll

    def _read(self) -> bool:
        """Read once. False: there is nothing."""
        try:
            data = os.read(self._ours, READ_BYTES) if self._is_open else b""
        except BlockingIOError:
            return False
        if data:
            self._task.add(data)
        self._is_open = bool(data)
        return self._is_open


class _Printed:
    """The output of one task."""

    def __init__(self, variables: Context) -> None:
        self._variables = variables
        self._room = MOST_BYTES
        self._line = bytearray()

    @property
    def is_full(self) -> bool:
        return self._room < 0

    @property
    def is_in_line(self) -> bool:
        return bool(self._line)

    def add(self, data: bytes) -> None:
        if self.is_full:
            return
        for number, part in enumerate(ENDS.split(data)):
            if number:
                self.end_line()
            if self.is_full:
                return
            self._line += part[: KEPT_BYTES - len(self._line)]
            self._count(len(part) + 1)

    def end_line(self) -> None:
        """Log what is there of a line."""
        if self._line:
            self._variables.run(_log, self._line.decode(errors="replace"))
            self._line.clear()
            self._count(LINE_BYTES)

    def _count(self, size: int) -> None:
        was_full, self._room = self.is_full, self._room - size
        if self.is_full and not was_full:
            self.end_line()
            self._variables.run(_log, DROPPED)


def _log(text: str) -> None:
    text = masked_here(text)
    shown = "".join(each if each.isprintable() or each == "\t" else "\ufffd" for each in text[:SHOWN_CHARACTERS])
    left = len(text) - len(shown)
    logger.info("%s", f"{shown}… ({left:,} more characters)" if left else shown, extra={"event": "task.printed"})
