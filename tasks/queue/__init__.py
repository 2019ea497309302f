"""The queue: leases on runs, turns between users, suspended runs, the broker, notifications.

- A run has one owner, who renews its lease. Each claim has a new epoch and token, by which later writes are allowed.
- Users take turns for workers; a run of one does not wait for all runs of another.
- A notification is a hint. Who listens also looks every few seconds, so a lost one costs time and nothing else.
- The death of a worker counts against the runs that it had in hand, until one of them makes progress.

Never: a clock of a machine where leases are compared; they use that of the database.
"""
