"""Setting for a server under test: open streams are checked once a day, so that only a change of the user ends one.

The server imports it as a module of executors (`executors.modules`). It defines none.
"""

from a2a.live import stream_limits

stream_limits.CHECK_SECONDS = 24 * 3600.0
