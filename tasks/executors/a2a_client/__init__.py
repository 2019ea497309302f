"""`a2a_executor`: a task that another A2A agent carries out."""
