"""The interfaces for programs: JSON-RPC, REST, A2A, WebSocket and event streams.

The A2A SDK has a top-level package of the same name; extending the path makes its modules
importable, too.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
