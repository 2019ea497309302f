"""The queue: leases on runs, turns between users, suspended runs, the broker, notifications."""
