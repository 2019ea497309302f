"""The curl commands of our documents, carried out without curl: a bare machine may lack it."""

import re
import shlex

import httpx


def request_of(command: str, *, base_url: str) -> httpx.Request:
    """What curl would send, to another server than the documents' localhost:8000. Raises ValueError for options unknown here."""
    name, *words = shlex.split(command.replace("\\\n", " "))
    if name != "curl":
        raise ValueError(f"not a curl command: {command}")
    url, method, headers, body = "", None, {}, None
    arguments = iter(words)
    for word in arguments:
        match word:
            case "-X":
                method = next(arguments)
            case "-H":
                header, _, value = next(arguments).partition(":")
                headers[header] = value.strip()
            case "-d":
                body = next(arguments)
            case "-s" | "-N" | "-sN":
                pass
            case _ if word.startswith("http"):
                url = re.sub("^http://localhost:8000", base_url, word)
            case _:
                raise ValueError(f"an option that these tests do not know: {word}")
    return httpx.Request(method or ("GET" if body is None else "POST"), url, headers=headers, content=body)


def curl(command: str, *, base_url: str) -> httpx.Response:
    """The answer, read to its end."""
    with httpx.Client(timeout=60) as client:
        return client.send(request_of(command, base_url=base_url))
