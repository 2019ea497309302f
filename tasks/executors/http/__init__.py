"""`rest_executor`, and HTTP requests that cannot reach the operator's own network."""
