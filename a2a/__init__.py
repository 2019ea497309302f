"""Everything spoken over the wire.

The official A2A SDK ships a top-level package of the same name; extending the path lets its modules import beside ours.
"""

from pkgutil import extend_path

__path__ = extend_path(__path__, __name__)
