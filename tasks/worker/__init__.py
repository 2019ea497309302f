"""The worker process: claims runs, executes their trees, records each step, delivers webhooks.

- A step has happened once it is committed; its event is in the same commit, and the numbers of a run's events are dense.
- A write for a run is refused once another worker has claimed it: each change names the claim that allows it.
- The beginning of an effect that must not be repeated is stored before the effect.
- A place is free again once what happened in it is committed.

Never: a query on the event loop (`group_commit` has a thread for them), work in proportion to a tree in one turn of the
loop (`loop_turns`), or a user whose changes wait for all those of another.
"""
