"""Signals about users' keys.

The module imports nothing of ours, so that apps can connect while Django starts.
"""

from typing import Final

from django.dispatch import Signal

key_is_set: Final = Signal()
"""Sent with `user_id` after a user's new key has been stored, through any interface."""
deleted_in_admin: Final = Signal()
"""Sent with `row`, an LLMKey or NamedSecret, and `actor`, in the transaction that deletes the row."""
