"""`rest_executor`, and an HTTP client that cannot reach the operator's own network."""
