"""`aipartnerupflow secrets …`: the named secrets of a user on a server. No command prints a value."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output, show
from aipartnerupflow.cli.options import ConfigFile, asks, configure, refuse

if TYPE_CHECKING:
    from aipartnerupflow.client import Client

keys = typer.Typer(no_args_is_help=True, help="Manage the LLM keys that are stored on a server.")

Provider = Annotated[str, typer.Argument(help="Provider: openai, anthropic, gemini, mistral, groq …")]
UserId = Annotated[
    str | None, typer.Option("--user", help="User who owns the key (default: you). Administrators only.")
]


@keys.command("set")
@asks(show.key_stored)
def set_key(
    client: "Client",
    provider: Provider,
    key_stdin: Annotated[bool, typer.Option("--key-stdin", help="Read the key from standard input.")] = False,
    user: UserId = None,
) -> Any:
    """Store (or replace) an LLM provider's API key. You are prompted for it."""
    # Never an argument: other users of the machine can read command lines in the list of processes.
    if key_stdin:
        key = sys.stdin.readline().strip()
    elif sys.stdin.isatty():
        key = str(typer.prompt("Key", hide_input=True)).strip()
    else:
        refuse("Cannot prompt for the key: standard input is not a terminal. Pass the key on it with --key-stdin.")
    return client.set_llm_key(provider, key or refuse("The key is empty."), user_id=user)


@keys.command("list")
@asks(show.keys, piped=lambda answer: output.as_lines(answer["keys"]))
def list_keys(client: "Client", user: UserId = None) -> Any:
    """List stored keys: the provider, the last four characters, and when the key was last used."""
    return client.llm_keys(user_id=user)


@keys.command("delete")
@asks(show.key_deleted)
def delete_key(client: "Client", provider: Provider, user: UserId = None) -> Any:
    """Delete the key for a provider."""
    return client.delete_llm_key(provider, user_id=user)


@keys.command("rotate")
def rotate(config: ConfigFile = None) -> None:
    """Re-encrypt all stored keys, secrets and secret inputs with the first of llm.encryption_keys.

    Works directly on the database; servers and workers may keep running.
    """
    from aipartnerupflow import server

    configure(config, {})
    server.rotate_keys()


secrets = typer.Typer(
    no_args_is_help=True, help="Manage the named secrets that tasks use, such as {{secret.github_token}}."
)

Name = Annotated[str, typer.Argument(help="Name: letters, digits and underscores, such as github_token.")]
Shared = Annotated[bool, typer.Option("--shared", help="A secret for several users. Administrators only.")]


@secrets.command("set")
@asks(show.secret_stored)
def set_secret(
    client: "Client",
    name: Name,
    host: Annotated[
        list[str] | None, typer.Option("--host", help="A host to which it may be sent; repeat it for several.")
    ] = None,
    allow_in: Annotated[
        list[str] | None,
        typer.Option("--in", help="An input of tasks in which it may be used, such as json; repeat it for several."),
    ] = None,
    shared: Shared = False,
    user: Annotated[
        list[str] | None, typer.Option("--user", help="A user of a shared secret; repeat it for several.")
    ] = None,
) -> Any:
    """Store (or replace) a secret. You are prompted for it, or it is read from standard input.

    A secret with hosts may be used in auth and headers, unless --in names other inputs.

    Without --host, --in and --user, a secret that is replaced keeps its own.
    """
    # Never an argument: other users of the machine can read command lines in the list of processes.
    if sys.stdin.isatty():
        value = str(typer.prompt("Value", hide_input=True))
    else:
        value = sys.stdin.read().removesuffix("\n").removesuffix("\r")
    return client.set_secret(
        name,
        value or refuse("The value is empty. Pass it on standard input, or type it at the prompt."),
        allow_hosts=host or None,
        allow_in=allow_in or None,
        scope="shared" if shared else None,
        users=user or None,
    )


@secrets.command("list")
@asks(show.secrets, piped=lambda answer: output.as_lines(answer["secrets"]))
def list_secrets(client: "Client") -> Any:
    """List the secrets that you may use: names, hosts, and when they were last used."""
    return client.secrets()


@secrets.command("delete")
@asks(show.secret_deleted)
def delete_secret(client: "Client", name: Name, shared: Shared = False) -> Any:
    """Delete a secret."""
    return client.delete_secret(name, scope="shared" if shared else None)
