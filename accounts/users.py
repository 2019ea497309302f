"""People: who they are, what they may do, and the verbs that change it. The command line and the admin use nothing else."""

from collections.abc import Iterable
from typing import Final

from django.contrib.auth.models import Group, User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Case, Exists, IntegerField, OuterRef, QuerySet, Value, When

from accounts.callers import Role

VIEWERS: Final = str(Role.VIEWER)
"""The group whose members may only look. Superusers are admins, and everybody else is an operator."""


class Refused(Exception):
    """What was asked for is not possible; the text says why and what to do."""


def role_in_sql(user: str = "") -> Case:
    """The role as a column; `user` is the way from the table to the user, such as `user__`."""
    viewers = User.groups.through.objects.filter(user_id=OuterRef(f"{user}pk"), group__name=VIEWERS)
    return Case(
        When(**{f"{user}is_superuser": True}, then=Value(Role.ADMIN)),
        When(Exists(viewers), then=Value(Role.VIEWER)),
        default=Value(Role.OPERATOR),
        output_field=IntegerField(),
    )


def with_role() -> QuerySet[User]:
    """Users with the role that `role_of` reads."""
    return User.objects.annotate(role=role_in_sql())


def active_users() -> QuerySet[User]:
    """Those who may come in."""
    return with_role().filter(is_active=True)


def first_admin() -> User | None:
    """The superuser who was there first, of those who may come in."""
    return active_users().filter(is_superuser=True).order_by("pk").first()


def role_of(user: User) -> Role:
    """The role of a user of `with_role`."""
    return Role(user.role)  # type: ignore[attr-defined]  # annotated


@transaction.atomic
def create_user(name: str, *, password: str, role: Role = Role.OPERATOR, is_weak_allowed: bool = False) -> User:
    """Raises Refused for a name that is taken or malformed, or a password that is too easy to guess."""
    user = User(username=User.normalize_username(name))
    try:
        user.full_clean(exclude={"password"})
    except ValidationError as error:
        raise Refused(f"Name '{user.username}': {' '.join(error.messages)}") from None
    _give_password(user, password, is_weak_allowed=is_weak_allowed)
    _give_role(user, role)
    return user


@transaction.atomic
def set_password(name: str, *, password: str, is_weak_allowed: bool = False) -> None:
    """Every token and session of the user ends with the old password; API keys stay. Raises Refused."""
    _give_password(user_named(name), password, is_weak_allowed=is_weak_allowed)


@transaction.atomic
def set_role(name: str, role: Role) -> None:
    """Raises Refused."""
    _give_role(user_named(name), role)


def set_active(name: str, *, is_active: bool) -> None:
    """A disabled user is refused everywhere at once, whatever they hold. Raises Refused."""
    user = user_named(name)
    user.is_active = is_active
    user.save(update_fields=["is_active"])


def user_named(name: str) -> User:
    """Raises Refused, with the names that there are."""
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
        raise Refused("The password is empty or has a NUL character. Give one with --password, or pipe it in.")
    try:
        validate_password(password, user)
    except ValidationError as error:
        if not is_weak_allowed:
            raise Refused(f"Password: {' '.join(error.messages)} --allow-weak takes it all the same.") from None
    user.set_password(password)
    user.save()


def _give_role(user: User, role: Role) -> None:
    user.is_superuser = user.is_staff = role is Role.ADMIN
    user.save(update_fields=["is_superuser", "is_staff"])
    viewers, _ = Group.objects.get_or_create(name=VIEWERS)
    change = viewers.user_set.add if role is Role.VIEWER else viewers.user_set.remove
    change(user)
