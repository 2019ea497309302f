"""Async access to the database: thread pools, their connections and SQLite's one writer. It imports no app.

- Users take turns for calls; a long call loses its place, so that others are made beside it (`calls`).
- `pools.write` returns after the commit. On SQLite, short calls that wait share a transaction, and processes take turns.
- A connection that the server has closed is replaced before it is used.

Never: a call of the database on an event loop.
"""
