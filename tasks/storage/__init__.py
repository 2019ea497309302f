"""The database below the models: connections, thread pools, bulk statements, SQLite's one writer."""
