"""Rules of tasks and trees: request validation, scheduling, task data. No Django, no I/O."""
