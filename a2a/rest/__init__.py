"""REST under `/api/`: the JSON-RPC methods as resources, and their OpenAPI document."""
