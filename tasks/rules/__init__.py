"""The rules of tasks and trees: what a valid request is, what may run, what a task's data may be. No Django, no I/O."""
