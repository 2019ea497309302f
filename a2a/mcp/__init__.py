"""The Model Context Protocol: `POST /mcp`, stateless, for clients of 2026-07-28 and of 2025-11-25 and earlier."""
