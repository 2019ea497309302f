"""The tools: those of the server, executors that the operator offers, and flows that their owners offer."""
