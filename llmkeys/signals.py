"""What others may want to hear of users' keys. It imports nothing of ours, so that an app can connect while Django starts."""

from typing import Final

from django.dispatch import Signal

key_is_set: Final = Signal()
"""A user has a new key, whichever door it came by. Sent with `user_id`, once it is stored."""
