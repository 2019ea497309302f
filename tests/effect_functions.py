"""Functions whose effects are counted: each call adds a line with its task to the file that the environment names."""

import os
import time

from aipartnerupflow.executors import current_context, python_function

SINK = "EFFECTS_SINK"


def _act() -> str:
    """Take a little while before the effect, and after it."""
    time.sleep(0.05)
    task_id = current_context().task_id
    file = os.open(os.environ[SINK], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{task_id}\n".encode())
    finally:
        os.close(file)
    time.sleep(0.1)
    return "acted"


@python_function
def pay() -> str:
    """Do what must not be done twice."""
    return _act()


@python_function(idempotent=True)
def look_up() -> str:
    """Do what may be done twice."""
    return _act()
