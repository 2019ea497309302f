"""The settings of the server, with the fixtures of the conformance suite of MCP at an address of their own."""

from apflow_site.settings import *  # noqa: F403

ROOT_URLCONF = "tests.a2a.mcp.conformance"
