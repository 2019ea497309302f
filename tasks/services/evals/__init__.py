"""Data sets, experiments that score versions of a flow on them, and their results.

- A version of a data set never changes (`datasets`).
- An experiment is a run like any other: a map over its cases, each of which runs the flow as a tree of its own and
  scores the result (`experiments`). The result is read from its tasks (`results`).

Never: a score of something that failed. It is not scored, and the reason is given.
"""
