"""Who runs what, and when: leases on runs, turns between users, suspended runs, the broker, notifications."""
