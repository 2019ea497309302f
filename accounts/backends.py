"""The authentication backend of Django for sessions.

Its users have the role that `users.role_of` reads.
"""

from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import User

from accounts.users import active_users


class UserBackend(ModelBackend):
    def get_user(self, user_id: int) -> User | None:
        return active_users().filter(pk=user_id).first()
