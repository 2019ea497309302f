"""Detection of weak signing secrets. Imports no Django: start-up checks before the settings load."""

from collections.abc import Iterable

MIN_SECRET_BYTES = 32  # RFC 7518, section 3.2: an HS256 key is at least as long as its hash
MIN_DISTINCT_CHARACTERS = 10  # of 32 random hex digits fewer than one in a million has so few
MAKE_A_SECRET = 'python -c "import secrets; print(secrets.token_urlsafe(48))"'

#: Parts of secrets that are printed in manuals, in lower case, without separators.
EXAMPLES = (
    "yoursecret",
    "yourjwtsecret",
    "your256bitsecret",
    "astringsecretatleast256bitslong",
    "supersecret",
    "changeme",
    "changethis",
    "changeinproduction",
    "replaceme",
    "djangoinsecure",
    "everybodyknows",  # docs/config.example.yaml
    "anexampleofanaccesskey",  # as well
    "09d25e094faa6ca2556c818166b7a9563b93f7099f6f0f4caa6cf63b88e8d3e7",
)


def weak_secret(secret: str, *, elsewhere: Iterable[str] = ()) -> str | None:
    """Return the reason why a secret is too weak to sign tokens, as a clause; None if it is strong enough.

    `elsewhere` are texts that must not contain it: other secrets, and URLs with passwords.
    """
    plain = "".join(filter(str.isalnum, secret.lower()))
    if any(example in plain for example in EXAMPLES):
        return "it is an example from a manual, which anyone can read"
    if (size := len(secret.encode(errors="replace"))) < MIN_SECRET_BYTES:
        return f"it has {size} bytes and needs at least {MIN_SECRET_BYTES}"
    if len(set(secret)) < MIN_DISTINCT_CHARACTERS:
        return "it repeats a few characters, so it is easy to guess"
    if any(secret in text for text in elsewhere):
        return "it is also used for something else, so a leak there would allow forging tokens"
    return None
