"""`aipartnerupflow keys …`: the LLM keys that a user keeps on a server. No command ever prints one."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output, show
from aipartnerupflow.cli.options import ConfigFile, asks, configure, refuse

if TYPE_CHECKING:
    from aipartnerupflow.client import Client

keys = typer.Typer(no_args_is_help=True, help="The keys of language models that are kept on a server.")

Provider = Annotated[str, typer.Argument(help="Whose key it is: openai, anthropic, gemini, mistral, groq …")]
UserId = Annotated[str | None, typer.Option("--user", help="Of this user (oneself); for administrators.")]


@keys.command("set")
@asks(show.key_stored)
def set_key(
    client: "Client",
    provider: Provider,
    key_stdin: Annotated[bool, typer.Option("--key-stdin", help="Read the key from standard input.")] = False,
    user: UserId = None,
) -> Any:
    """Keep a key for a provider, in the place of an earlier one. The key is asked for, and never an argument."""
    return client.set_llm_key(provider, _key(key_stdin), user_id=user)


@keys.command("list")
@asks(show.keys, piped=lambda answer: output.as_lines(answer["keys"]))
def list_keys(client: "Client", user: UserId = None) -> Any:
    """List the providers that there is a key for, with its last four characters."""
    return client.llm_keys(user_id=user)


@keys.command("delete")
@asks(show.key_deleted)
def delete_key(client: "Client", provider: Provider, user: UserId = None) -> Any:
    """Forget the key for a provider."""
    return client.delete_llm_key(provider, user_id=user)


@keys.command("rotate")
def rotate(config: ConfigFile = None) -> None:
    """Seal all stored keys anew with the newest of llm.encryption_keys. It works on the database itself, beside running servers."""
    from aipartnerupflow import server

    configure(config, {})
    server.rotate_keys()


def _key(from_stdin: bool) -> str:
    """Where others on the machine cannot read it: a command line stands in the list of processes. Raises typer.Exit."""
    if from_stdin:
        key = sys.stdin.readline().strip()
    elif sys.stdin.isatty():
        key = str(typer.prompt("Key", hide_input=True)).strip()
    else:
        refuse("There is no terminal to ask for the key on. Give it on standard input, with --key-stdin.")
    return key or refuse("The key is empty.")
