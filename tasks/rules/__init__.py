"""Rules of tasks and trees: request validation, scheduling, task data.

Pure functions of values: the same ones decide in a request, in a worker and in the tests' model. An error names the field,
the reason and what to do.

Never: Django, I/O, a clock, or work that grows faster than what the limits of a request allow.
"""
