"""`aipartnerupflow users …` and `tokens …`: who may come in, and with which keys. They work on the database, not on a server."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from enum import StrEnum
from functools import partial
from getpass import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output, show
from aipartnerupflow.cli.options import AsJson, ConfigFile, configure, refuse

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from accounts.models import APIKey

users = typer.Typer(no_args_is_help=True, help="Who may log in.")
tokens = typer.Typer(no_args_is_help=True, help="API keys for programs.")


class RoleName(StrEnum):
    """As `accounts.callers.Role`, which is not imported before a command needs it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


Name = Annotated[str, typer.Argument(metavar="NAME", help="The name that is given at login.")]
Password = Annotated[str | None, typer.Option(help="Asked for, or read from a pipe, when not given.")]
Weak = Annotated[bool, typer.Option("--allow-weak", help="Take a password that is easy to guess.")]


@users.command("create")
def create_user(
    name: Name,
    password: Password = None,
    role: Annotated[
        RoleName, typer.Option(help="A viewer looks, an operator works, an admin sees all.")
    ] = RoleName.OPERATOR,
    admin: Annotated[bool, typer.Option("--admin", help="The same as --role admin.")] = False,
    allow_weak: Weak = False,
    config: ConfigFile = None,
) -> None:
    """Create a user who may log in."""
    with _database(config):
        from accounts import users

        chosen = RoleName.ADMIN if admin else role
        user = users.create_user(name, password=_password(password), role=_role(chosen), is_weak_allowed=allow_weak)
        typer.echo(f"Created {chosen} '{user.username}'.")
        _say_when_off()


@users.command("list")
def list_users(as_json: AsJson = False, config: ConfigFile = None) -> None:
    """List all users with their roles."""
    with _database(config):
        from accounts.users import with_role

        found = [_shown_user(user) for user in with_role().order_by("username")]
        output.answer(found, shown=partial(show.rows, nothing="No users."), as_json=as_json)


@users.command()
def disable(name: Name, config: ConfigFile = None) -> None:
    """Lock a user out at once, with all tokens, keys and sessions."""
    with _database(config):
        from accounts.users import set_active

        set_active(name, is_active=False)
        typer.echo(f"'{name}' is locked out. Their tasks stay, and run on.")


@users.command()
def enable(name: Name, config: ConfigFile = None) -> None:
    """Let a disabled user in again."""
    with _database(config):
        from accounts.users import set_active

        set_active(name, is_active=True)
        typer.echo(f"'{name}' may come in again.")


@users.command("set-password")
def set_password(name: Name, password: Password = None, allow_weak: Weak = False, config: ConfigFile = None) -> None:
    """Give a user another password, which ends their tokens and sessions. API keys stay."""
    with _database(config):
        from accounts import users

        users.user_named(name)
        users.set_password(name, password=_password(password), is_weak_allowed=allow_weak)
        typer.echo(f"'{name}' has another password; whoever used the old one is logged out.")


@users.command("set-role")
def set_role(
    name: Name,
    role: Annotated[RoleName, typer.Argument(metavar="ROLE", help="viewer, operator or admin.")],
    config: ConfigFile = None,
) -> None:
    """Give a user another role. It counts at once."""
    with _database(config):
        from accounts import users

        users.set_role(name, _role(role))
        typer.echo(f"'{name}' is {role} now.")


@tokens.command("create")
def create_token(
    user: Annotated[str, typer.Argument(metavar="USER", help="Whom the key speaks for.")],
    name: Annotated[str, typer.Option(help="What the key is for.")] = "cli",
    role: Annotated[RoleName | None, typer.Option(help="At most the user's, which it is when not given.")] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="It sees what the role sees, and changes nothing.")
    ] = False,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="How long it works (until it is revoked).")] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Make an API key and print it, this once."""
    with _database(config):
        from accounts.api_keys import create_key
        from accounts.users import user_named

        key, text = create_key(
            user_named(user),
            name=name,
            role=_role(role) if role else None,
            is_read_only=read_only,
            lifetime=timedelta(days=days) if days else None,
        )
        if as_json:
            output.as_document(_shown_key(key) | {"key": text})
            return
        typer.echo(text)
        output.note(
            "Keep it now: only its hash is stored. Use it as 'Authorization: Bearer …' or AIPARTNERUPFLOW_TOKEN."
        )
        _say_when_off()


@tokens.command("list")
def list_tokens(
    user: Annotated[str | None, typer.Option("--user", help="Only the keys of this user.")] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """List the API keys that work, by their beginnings."""
    with _database(config):
        from accounts.api_keys import keys_of
        from accounts.users import user_named

        found = [_shown_key(key) for key in keys_of(user_named(user) if user else None)]
        output.answer(found, shown=partial(show.rows, nothing="No API keys."), as_json=as_json)


@tokens.command()
def revoke(
    prefix: Annotated[str, typer.Argument(metavar="KEY", help="Its beginning, as 'tokens list' shows it.")],
    config: ConfigFile = None,
) -> None:
    """End an API key. It is refused from now on."""
    with _database(config):
        from accounts.api_keys import revoke_key

        key = revoke_key(prefix)
        typer.echo(f"{key.prefix}… of '{key.user.username}' works no more.")


@contextmanager
def _database(config: Any) -> Iterator[None]:
    """Django is ready inside. Raises typer.Exit when what is asked for is refused."""
    from aipartnerupflow import server

    configure(config, {})
    server.prepare()
    from accounts.users import Refused

    try:
        yield
    except Refused as refused:
        refuse(str(refused))


def _role(name: RoleName) -> Any:
    from accounts.callers import Role

    return Role[name.name]


def _password(given: str | None) -> str:
    """The option, or a line from a pipe, or what is typed twice. Raises typer.Exit."""
    if given is not None:
        return given
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass("Password: ")
    if password != getpass("Password again: "):
        refuse("The two passwords differ. Nothing was changed.")
    return password


def _say_when_off() -> None:
    from django.conf import settings

    if not settings.APFLOW.auth.is_on:
        output.note("Authentication is off: 'auth: {enabled: true, jwt_secret: …}' in config.yaml turns it on.")


def _shown_user(user: "User") -> dict[str, Any]:
    from accounts.users import role_of

    return {
        "name": user.username,
        "role": str(role_of(user)),
        "enabled": user.is_active,
        "last_login": _time(user.last_login),
    }


def _shown_key(key: "APIKey") -> dict[str, Any]:
    return {
        "key": f"{key.prefix}…",
        "user": key.user.username,
        "name": key.name,
        "role": key.get_role_limit_display(),
        "read_only": key.is_read_only,
        "expires": _time(key.expires_at),
        "last_used": _time(key.last_used_at),
    }


def _time(value: datetime | None) -> str | None:
    return value.isoformat(timespec="seconds") if value else None
