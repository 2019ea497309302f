"""`mcp_executor`: calls servers of the Model Context Protocol.

A client of our own: servers are not trusted, so everything that they send is bounded before it is parsed or logged.
"""
