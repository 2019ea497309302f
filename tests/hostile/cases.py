"""The corpus of hostile requests: how a line of `corpus/*.jsonl` becomes a request, and what it must come to."""

from pathlib import Path
from typing import Any, Final

import msgspec
import orjson

CORPUS: Final = Path(__file__).parent / "corpus"
DOORS: Final = ("/", "/tasks")


class Repeated(msgspec.Struct, forbid_unknown_fields=True):
    """A text many times. `#` in it is the number of the time, from 0, and `~` the one before."""

    text: str
    times: int
    between: str = ""

    def body(self) -> str:
        if "#" not in self.text:
            return self.between.join([self.text] * self.times)
        return self.between.join(
            self.text.replace("#", str(number)).replace("~", str(number - 1)) for number in range(self.times)
        )


class Case(msgspec.Struct, forbid_unknown_fields=True):
    """A line. It is sent to each of `paths` with one of: a `method` and its `params`, a whole `request`, or a body that
    is text, `hex` or a recipe of `parts`.

    `status` and `code` are to be answered; for a batch there is a code for each answer, and null stands for a result. At `/`
    `a2a_code` is answered, where A2A has a code of its own. `field` is the first that the error names, `stores` how many tasks there are more afterwards, `echoes` a name that comes back.
    """

    name: str
    paths: tuple[str, ...] = DOORS
    http: str = "POST"
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    method: str | None = None
    params: Any = None
    request: Any = None
    body: str = ""
    hex: str = ""
    parts: list[str | Repeated] = msgspec.field(default_factory=list)
    status: int = 200
    code: int | str | list[int | None] | None = None
    a2a_code: int | None = None
    field: str | None = None
    result: Any = msgspec.UNSET
    stores: int = 0
    echoes: str | None = None

    @property
    def sent_headers(self) -> dict[bytes, bytes]:
        kind = {"Content-Type": "application/json"} if self.http == "POST" else {}
        return {name.encode(): value.encode() for name, value in {**kind, **self.headers}.items()}

    @property
    def content(self) -> bytes:
        if self.method is not None:
            return orjson.dumps({"jsonrpc": "2.0", "method": self.method, "params": self.params, "id": 1})
        if self.request is not None:
            return orjson.dumps(self.request)
        if self.parts:
            return "".join(part if isinstance(part, str) else part.body() for part in self.parts).encode()
        return bytes.fromhex(self.hex) or self.body.encode()


def cases_of(file: str) -> list[Case]:
    """The lines of a file of the corpus."""
    lines = (CORPUS / f"{file}.jsonl").read_bytes().splitlines()
    return [msgspec.json.decode(line, type=Case) for line in lines]
