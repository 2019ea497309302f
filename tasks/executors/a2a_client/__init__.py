"""`a2a_executor`: delegates a task to another A2A agent."""
