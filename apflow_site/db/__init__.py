"""Async access to the database: thread pools, their connections and SQLite's one writer. It imports no app."""
