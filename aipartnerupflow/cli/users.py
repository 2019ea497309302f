"""`aipartnerupflow users …` and `tokens …`: accounts, roles and API keys.

They work directly on the database of this installation, not through a server.
"""

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

users = typer.Typer(no_args_is_help=True, help="Manage user accounts and roles.")
tokens = typer.Typer(no_args_is_help=True, help="Manage API keys for programs.")


class RoleName(StrEnum):
    """The names of `accounts.callers.Role`, so that `--help` need not import Django."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


Name = Annotated[str, typer.Argument(metavar="NAME", help="User name.")]
Password = Annotated[str | None, typer.Option(help="Password. If omitted, it is prompted for, or read from a pipe.")]
Weak = Annotated[bool, typer.Option("--allow-weak", help="Accept a password that is easy to guess.")]


@users.command("create")
def create_user(
    name: Name,
    password: Password = None,
    role: Annotated[
        RoleName, typer.Option(help="viewer: read only; operator: run tasks; admin: all tasks of all users.")
    ] = RoleName.OPERATOR,
    admin: Annotated[bool, typer.Option("--admin", help="Same as --role admin.")] = False,
    allow_weak: Weak = False,
    config: ConfigFile = None,
) -> None:
    """Create a user."""
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
    """Disable a user. Their tokens, API keys and sessions stop working at once."""
    with _database(config):
        from accounts.users import set_active

        set_active(name, is_active=False)
        typer.echo(f"Disabled '{name}'. Their tasks are kept, and continue to run.")


@users.command()
def enable(name: Name, config: ConfigFile = None) -> None:
    """Enable a disabled user."""
    with _database(config):
        from accounts.users import set_active

        set_active(name, is_active=True)
        typer.echo(f"Enabled '{name}'.")


@users.command("set-password")
def set_password(name: Name, password: Password = None, allow_weak: Weak = False, config: ConfigFile = None) -> None:
    """Change a user's password. This ends their tokens and sessions, but not their API keys."""
    with _database(config):
        from accounts import users

        users.user_named(name)
        users.set_password(name, password=_password(password), is_weak_allowed=allow_weak)
        typer.echo(f"Changed the password of '{name}'. Their tokens and sessions have ended.")


@users.command("set-role")
def set_role(
    name: Name,
    role: Annotated[RoleName, typer.Argument(metavar="ROLE", help="viewer, operator or admin.")],
    config: ConfigFile = None,
) -> None:
    """Change a user's role. It takes effect at once."""
    with _database(config):
        from accounts import users

        users.set_role(name, _role(role))
        typer.echo(f"Changed the role of '{name}' to {role}.")


@tokens.command("create")
def create_token(
    user: Annotated[str, typer.Argument(metavar="USER", help="User name of the owner.")],
    name: Annotated[str, typer.Option(help="Label, such as the program that uses the key.")] = "cli",
    role: Annotated[
        RoleName | None, typer.Option(help="Role of the key (default: the owner's, which it cannot exceed).")
    ] = None,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="The key may read what the role may read, and change nothing.")
    ] = False,
    days: Annotated[int | None, typer.Option(min=1, max=3650, help="Days until it expires (default: never).")] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """Create an API key. It is printed once and cannot be shown again."""
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
            "Save it now: only its hash is stored. Send it as 'Authorization: Bearer …', or set AIPARTNERUPFLOW_TOKEN."
        )
        _say_when_off()


@tokens.command("list")
def list_tokens(
    user: Annotated[str | None, typer.Option("--user", help="Only keys of this user.")] = None,
    as_json: AsJson = False,
    config: ConfigFile = None,
) -> None:
    """List active API keys by their first characters."""
    with _database(config):
        from accounts.api_keys import keys_of
        from accounts.users import user_named

        found = [_shown_key(key) for key in keys_of(user_named(user) if user else None)]
        output.answer(found, shown=partial(show.rows, nothing="No API keys."), as_json=as_json)


@tokens.command()
def revoke(
    prefix: Annotated[
        str, typer.Argument(metavar="KEY", help="First characters of the key, as 'tokens list' shows them.")
    ],
    config: ConfigFile = None,
) -> None:
    """Revoke an API key. It stops working at once."""
    with _database(config):
        from accounts.api_keys import revoke_key

        key = revoke_key(prefix)
        typer.echo(f"Revoked {key.prefix}… of '{key.user.username}'.")


@contextmanager
def _database(config: Any) -> Iterator[None]:
    """Set up Django and the database for the block. `Refused` is printed; raises typer.Exit."""
    from aipartnerupflow import server

    configure(config, {})
    server.prepare()
    from accounts.users import Refused

    try:
        with server.on_command_line():
            yield
    except Refused as refused:
        refuse(str(refused))


def _role(name: RoleName) -> Any:
    from accounts.callers import Role

    return Role[name.name]


def _password(given: str | None) -> str:
    """Return the value of --password, else a line from a pipe, else a prompt that asks twice.

    Raises typer.Exit if the two entries differ.
    """
    if given is not None:
        return given
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass("Password: ")
    if password != getpass("Password again: "):
        refuse("The two passwords differ. Nothing was changed; run the command again.")
    return password


def _say_when_off() -> None:
    from django.conf import settings

    if not settings.APFLOW.auth.is_on:
        output.note(
            "Authentication is off. To turn it on, put 'auth: {enabled: true, jwt_secret: …}' into config.yaml."
        )


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
