"""Users and their roles, and the functions that change them.

The command line and the admin use these.
"""

import unicodedata
from collections.abc import Iterable
from typing import Final

from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Case, Exists, IntegerField, OuterRef, QuerySet, Value, When

from accounts import audit
from accounts.audit import Action
from accounts.callers import ROLE_PREFIX, Caller, Role
from apflow_site.db.prepared import Prepared

VIEWERS: Final = str(Role.VIEWER)
"""The group of viewers. Superusers are admins; all other users are operators."""


USERS: Final = User._meta.db_table
MEMBERS: Final = f"{USERS}_groups"
"""Django has no model of this table in a project with a user model of its own (`aipartnerupflow.django`)."""
HAS_ROLE: Final = f"""person.is_active AND (person.is_superuser OR ({{role}} = '{ROLE_PREFIX}{Role.OPERATOR}' AND NOT EXISTS (
    SELECT 1 FROM {MEMBERS} member JOIN {Group._meta.db_table} team ON team.id = member.group_id
    WHERE member.user_id = person.id AND team.name = '{VIEWERS}')))"""  # noqa: S608  (constants)
"""Whether the row `person` of USERS has the role that may answer questions, named as `role` says: a condition in SQL. It
agrees with `role_in_sql` and `Caller.names`."""


LOOK_ALIKES: Final = str.maketrans("аеорсухіјѕһԁԛԝӏгпкмтвнαορνυικχγ", "aeopcyxijshdqwlrnkmtbhaopvuikxy")
"""Small Cyrillic and Greek letters that look like Latin ones, and these."""
WRITTEN_TOGETHER: Final = frozenset({"CJK", "HIRAGANA", "KATAKANA"})
"""Scripts of one language."""


class Refused(Exception):
    """The request is not possible. The message gives the reason and, if there is one, the remedy."""


def role_in_sql(user: str = "") -> Case:
    """Return the role as a SQL expression. `user` is the lookup prefix of the user, such as `user__`."""
    viewers = User.groups.through.objects.filter(user_id=OuterRef(f"{user}pk"), group__name=VIEWERS)
    return Case(
        When(**{f"{user}is_superuser": True}, then=Value(Role.ADMIN)),
        When(Exists(viewers), then=Value(Role.VIEWER)),
        default=Value(Role.OPERATOR),
        output_field=IntegerField(),
    )


def with_role() -> QuerySet[User]:
    """Return all users, annotated with the role that `role_of` reads."""
    return User.objects.annotate(role=role_in_sql())


def active_users() -> QuerySet[User]:
    """Users who may log in, with their roles."""
    return with_role().filter(is_active=True)


def first_admin() -> User | None:
    """Return the oldest active administrator, or None."""
    return active_users().filter(is_superuser=True).order_by("pk").first()


def role_of(user: User) -> Role:
    """Return the role of a user from `with_role` or `active_users`."""
    return Role(user.role)  # type: ignore[attr-defined]  # annotated


def caller_for(user_id: str) -> Caller:
    """Return the caller for what the server does in the name of a user; one whom another issuer names is an operator."""
    user = active_users().filter(username=user_id).first()
    return Caller(user_id=user_id) if user is None else Caller(user_id=user_id, role=role_of(user))


@transaction.atomic
def create_user(name: str, *, password: str, role: Role = Role.OPERATOR, is_weak_allowed: bool = False) -> User:
    """Create a user.

    Raises Refused if the name is taken or malformed, or if the password is too easy to guess.
    """
    user = User(username=User.normalize_username(name))
    try:
        user.full_clean(exclude={"password"})
        check_new_name(user.username)
    except ValidationError as error:
        raise Refused(f"Name '{user.username}': {' '.join(error.messages)}") from None
    _give_password(user, password, is_weak_allowed=is_weak_allowed)
    _give_role(user, role)
    audit.record(Action.USER_CREATED, target=user.username, role=str(role))
    return user


def check_new_name(name: str) -> None:
    """Raise ValidationError if a new user's name could be taken for another one.

    Secrets, trees and questions are given to users by their names. Existing users keep theirs.
    """
    normal = unicodedata.normalize("NFKC", name)
    letters = [character for character in normal if character.isalpha()]
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in letters}
    if len(scripts) > 1 and not scripts <= WRITTEN_TOGETHER:
        found = {
            script: next(each for each in letters if unicodedata.name(each, "").startswith(script))
            for script in sorted(scripts)
        }
        mixed = ", ".join(f"{script.capitalize()} ('{letter}')" for script, letter in found.items())
        raise ValidationError(f"It mixes letters of several scripts: {mixed}. Write it in one.")
    shape = _shape(name)
    for other in User.objects.values_list("username", flat=True):
        if other != name and _shape(other) == shape:
            raise ValidationError(f"It looks like the user '{other}'. Choose another name.")


def _shape(name: str) -> str:
    """Return what names that look alike have in common."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return folded.translate(LOOK_ALIKES)


@transaction.atomic
def set_password(name: str, *, password: str, is_weak_allowed: bool = False) -> None:
    """Change a password.

    All tokens and sessions of the user end; API keys stay valid. Raises Refused.
    """
    user = user_named(name)
    _give_password(user, password, is_weak_allowed=is_weak_allowed)
    audit.record(Action.USER_PASSWORD_SET, target=user.username)


@transaction.atomic
def set_role(name: str, role: Role) -> None:
    """Change a user's role. Raises Refused if there is no such user."""
    user = user_named(name)
    before = role_of(user)
    _give_role(user, role)
    if role is not before:
        audit.record(Action.USER_ROLE_SET, target=user.username, role=str(role), before=str(before))


@transaction.atomic
def set_active(name: str, *, is_active: bool) -> None:
    """Enable or disable a user. All credentials of a disabled user stop working within a second.

    Raises Refused if there is no such user.
    """
    user = user_named(name)
    user.is_active = is_active
    user.save(update_fields=["is_active"])
    audit.record(Action.USER_ENABLED if is_active else Action.USER_DISABLED, target=user.username)


def is_disabled(name: str) -> bool:
    """Return whether there is a disabled user of this name. Users of other issuers are unknown here, and not disabled."""
    return DISABLED.first(named=name) is not None


def disabled_among(names: Iterable[str]) -> set[str]:
    """Return those of the names that disabled users have."""
    return set(User.objects.filter(username__in=names, is_active=False).values_list("username", flat=True))


DISABLED: Final = Prepared(lambda *, named: User.objects.filter(username=named, is_active=False))


def user_named(name: str) -> User:
    """Return the user, with the role. Raises Refused, with the names of existing users, if there is none."""
    user = with_role().filter(username=User.normalize_username(name)).first()
    if user is None:
        raise Refused(
            f"There is no user '{name}'. {_who_there_is(User.objects.values_list('username', flat=True)[:10])}"
        )
    return user


def _who_there_is(names: Iterable[str]) -> str:
    known = ", ".join(names)
    return f"Users: {known}." if known else "Create one with: aipartnerupflow users create NAME"


def _give_password(user: User, password: str, *, is_weak_allowed: bool) -> None:
    if not password or "\0" in password:
        raise Refused(
            "The password is empty or contains a NUL character. Pass it with --password, or on standard input."
        )
    try:
        validate_password(password, user)
    except ValidationError as error:
        if not is_weak_allowed:
            raise Refused(f"Password: {' '.join(error.messages)} To accept it anyway, pass --allow-weak.") from None
    user.set_password(password)
    user.save()


def _give_role(user: User, role: Role) -> None:
    user.is_superuser = user.is_staff = role is Role.ADMIN
    user.save(update_fields=["is_superuser", "is_staff"])
    viewers, _ = Group.objects.get_or_create(name=VIEWERS)
    change = viewers.user_set.add if role is Role.VIEWER else viewers.user_set.remove
    change(user)
