"""Callers whom code with access to the database names: it vouches for them, as a token does elsewhere.

Plain SQL: the project of that code may have a user model of its own, and then Django's has no queries.
"""

from typing import Final

from django.db import connection

from accounts.callers import MAX_USER_ID_CHARACTERS, Caller, Role

FIND: Final = """
SELECT person.is_active, person.is_superuser, EXISTS (
    SELECT 1 FROM auth_user_groups member JOIN auth_group team ON team.id = member.group_id
    WHERE member.user_id = person.id AND team.name = %s)
FROM auth_user person WHERE person.username = %s
"""


def caller_named(user_id: str) -> Caller | None:
    """Return the user as a caller; None for a disabled user, and for a name that no token may have.

    A user who is unknown here has another issuer, and is an operator, as with a token without roles.
    """
    if not 1 <= len(user_id) <= MAX_USER_ID_CHARACTERS or not user_id.isprintable() or user_id != user_id.strip():
        return None
    with connection.cursor() as cursor:
        cursor.execute(FIND, [str(Role.VIEWER), user_id])
        found = cursor.fetchone()
    if found is None:
        return Caller(user_id=user_id)
    is_active, is_admin, is_viewer = found
    if not is_active:
        return None
    return Caller(user_id=user_id, role=Role.ADMIN if is_admin else Role.VIEWER if is_viewer else Role.OPERATOR)
