"""A key in the memory of a process: easy to pass on, hard to reveal by mistake."""

from hmac import compare_digest
from typing import Final, NoReturn
from weakref import WeakValueDictionary

SHOWN: Final = 4
LONG_ENOUGH: Final = 16
"""The last four characters of a shorter key would reveal too much, and masking it would mask
ordinary words.
"""


class Secret:
    """A text that prints as `sk-…1234`, and cannot be pickled or encoded as JSON.

    `reveal()` returns the text.
    """

    __slots__ = ("__weakref__", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        _IN_MEMORY[id(self)] = self

    def reveal(self) -> str:
        """Return the text.

        Call it only where it is used: as an argument of the request that needs it.
        """
        return self._text

    @property
    def last_four(self) -> str:
        """The end of the text, by which its owner recognizes it; empty for a short one."""
        return self._text[-SHOWN:] if len(self._text) >= LONG_ENOUGH else ""

    def __str__(self) -> str:
        return f"{'sk-' if self._text.startswith('sk-') else ''}…{self.last_four}"

    def __repr__(self) -> str:
        return f"<{self}>"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash(self._text)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret cannot be pickled or copied: pass it on, or encrypt it (llmkeys.cipher)")


_IN_MEMORY: Final[WeakValueDictionary[int, Secret]] = WeakValueDictionary()


def texts_in_memory() -> set[str]:
    """Return the plain texts of all live Secrets, for redaction.

    Short ones are skipped: they may be ordinary words.
    """
    secrets = filter(None, [reference() for reference in _IN_MEMORY.valuerefs()])
    return {text for secret in secrets if len(text := secret.reveal()) >= LONG_ENOUGH}
