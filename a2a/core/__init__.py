"""What all interfaces share: the JSON-RPC envelope, errors, HTTP, parsing, tasks in A2A's shapes."""
