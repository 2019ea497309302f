"""`aipartnerupflow keys …`: the LLM keys that a user stores on a server. No command prints a key."""

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
    return client.set_llm_key(provider, _key(key_stdin), user_id=user)


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


def _key(from_stdin: bool) -> str:
    """Read the key from standard input or a hidden prompt. Raises typer.Exit if there is none.

    Never an argument: other users of the machine can read command lines in the list of processes.
    """
    if from_stdin:
        key = sys.stdin.readline().strip()
    elif sys.stdin.isatty():
        key = str(typer.prompt("Key", hide_input=True)).strip()
    else:
        refuse("Cannot prompt for the key: standard input is not a terminal. Pass the key on it with --key-stdin.")
    return key or refuse("The key is empty.")
