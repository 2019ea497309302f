"""Checks of a task: `params.checks` looks at what goes into a model or a tool, and at what comes out. Pure.

`[{"on": "output", "with": "secrets", "then": "redact"}]`. `with` is the name of a built-in check, of a function, of an executor
or of a flow (`flow:NAME`), or an object with one of `schema`, `expression`, `length`, `addresses` and `judge`.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

import orjson

from tasks.rules import conditions
from tasks.rules.field_rules import MONTH_SECONDS, MOST_CHECKS, MOST_RETRIES_OF_CHECK
from tasks.rules.flows import NAME_RULE, REFERENCE
from tasks.rules.schema import TooCostly, check_cost, fault
from tasks.rules.strict_json import Json
from tasks.rules.waits import SCHEMA, fault_of_assignees

Problem = tuple[str, str]

RETRIES: Final = 2
NAME_CHARACTERS: Final = 100
RUBRIC_CHARACTERS: Final = 10_000
REDACTED: Final = "[redacted]"
FLOW: Final = "flow:"
SECRETS: Final = "secrets"
ADDRESSES: Final = "addresses"
FIELDS: Final = ("on", "with", "then", "name", "retries", "assignees", "timeout_seconds")
KINDS: Final = ("schema", "expression", "length", "addresses", "judge")
"""The checks that are objects, by their only field."""
REFUSED: Final = "Refused by the check '{name}' on the {on}: {reason}"
"""The error of a task that a check has failed."""
OF_A_CHECK: Final = re.compile(r"Refused by the check '(?P<name>[^']+)' on the (?P<on>input|output): ")


class On(StrEnum):
    """The texts that a check looks at."""

    INPUT = "input"
    OUTPUT = "output"
    TOOL_ARGUMENTS = "tool_arguments"
    TOOL_RESULT = "tool_result"


class Then(StrEnum):
    """The action on a text that does not pass."""

    FAIL = "fail"
    ASK = "ask"
    REDACT = "redact"
    RETRY = "retry"


OF_TOOLS: Final[Mapping[On, On]] = MappingProxyType({On.TOOL_ARGUMENTS: On.INPUT, On.TOOL_RESULT: On.OUTPUT})
"""The arguments of a call are the inputs of its task, and its result is the output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One of the checks of a task. `kind` is one of KINDS, SECRETS, `flow` or `code`, and `given` what it is made with."""

    number: int
    on: On
    kind: str
    given: Any
    then: Then
    name: str
    retries: int
    assignees: Sequence[str] | None
    timeout_seconds: float | None

    @property
    def key(self) -> str:
        """Its name among the checks of the task."""
        return f"{self.on}/{self.name}"

    def lets_continue(self, count: int) -> bool:
        """Return whether an agent may continue after this check has refused so many of its calls."""
        return self.then is Then.ASK or (self.then is Then.RETRY and count <= self.retries)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The result of a check. `redacted` is the text or value that takes the place of the one that was checked, if it is known."""

    ok: bool
    reason: str = ""
    redacted: Any = None


def checks_of(params: Mapping[str, Any], *on: On) -> list[Check]:
    """Read `params.checks`, which has been checked; only those on these texts."""
    found = []
    for number, given in enumerate(params.get("checks") or ()):
        if given["on"] not in on:
            continue
        kind, what = kind_of(given["with"])
        found.append(
            Check(
                number=number,
                on=On(given["on"]),
                kind=kind,
                given=what,
                then=Then(given.get("then", Then.FAIL)),
                name=name_of(given),
                retries=given.get("retries", RETRIES),
                assignees=given.get("assignees"),
                timeout_seconds=given.get("timeout_seconds"),
            )
        )
    return found


def kind_of(given: Any) -> tuple[str, Any]:
    """Return the kind of a check, and what it is made with."""
    if isinstance(given, dict):
        ((kind, what),) = given.items()
        return kind, what
    if given.startswith(FLOW):
        return "flow", given.removeprefix(FLOW)
    return (given, None) if given in (SECRETS, ADDRESSES) else ("code", given)


def name_of(given: Json) -> str:
    """Return the name of a check, which its records and errors have."""
    name = given.get("name")
    if name is None:
        kind, what = kind_of(given["with"])
        name = {"flow": f"{FLOW}{what}", "code": str(what)}.get(kind, kind)
    return str(name)[:NAME_CHARACTERS]


def of_calls(params: Mapping[str, Any]) -> list[Json]:
    """Return the checks on tools as those of the task of a call. One whose reason the model reads fails the call."""
    found = []
    for each in params.get("checks") or ():
        if each["on"] in OF_TOOLS:
            of_call = each | {"on": OF_TOOLS[On(each["on"])], "name": name_of(each)}
            if of_call.pop("retries", None) or of_call.get("then") == Then.RETRY:
                of_call["then"] = Then.FAIL
            found.append(of_call)
    return found


def executors_of(params: Mapping[str, Any]) -> set[str]:
    """Return the executors that make the checks of a task: code and flows may do whatever the user may."""
    kinds = {kind_of(each["with"])[0] for each in params.get("checks") or ()}
    trees = {"run_tree_executor"} if kinds & {"flow", "code"} else set()
    return trees | ({"llm_executor"} if "judge" in kinds else set())


def refused_by(params: Mapping[str, Any], error: str) -> Check | None:
    """Return the check on tools that has failed the task of a call with this error."""
    if (found := OF_A_CHECK.match(error)) is None:
        return None
    named = (check for check in checks_of(params, *OF_TOOLS) if check.name == found["name"])
    return next((check for check in named if OF_TOOLS[check.on] == found["on"]), None)


# --- the shape ---


def problems(value: object, path: str) -> Iterator[Problem]:
    """Yield what is wrong with the shape of `params.checks`."""
    if not isinstance(value, list) or not 0 < len(value) <= MOST_CHECKS:
        yield path, f'must be a list of 1 to {MOST_CHECKS} checks, such as {{"on": "output", "with": "secrets"}}'
        return
    names = set[tuple[object, str]]()
    for index, given in enumerate(value):
        place = f"{path}[{index}]"
        found = list(_problems(given, place))
        yield from found
        if found:
            continue
        if (key := (given["on"], name_of(given))) in names:
            yield place, f"has the name '{key[1]}' of another check on the same text. Give one of them another `name`"
        names.add(key)


def _problems(given: object, place: str) -> Iterator[Problem]:
    if not isinstance(given, dict):
        yield place, "must be an object with `on`, `with` and `then`"
        return
    for field in sorted(given.keys() - set(FIELDS)):
        close = get_close_matches(field[:100], FIELDS, n=1)
        yield f"{place}.{field[:255]}", f"is not known; did you mean '{close[0]}'?" if close else _known(FIELDS)
    if given.get("on") not in list(On):
        yield f"{place}.on", f"must be one of {', '.join(On)}"
    then = given.get("then", Then.FAIL)
    if then not in list(Then):
        yield f"{place}.then", f"must be one of {', '.join(Then)}"
        then = Then.FAIL
    if "name" in given and not _is_name(given["name"]):
        yield f"{place}.name", f"must be a text of 1 to {NAME_CHARACTERS} characters without quotes"
    if "with" not in given:
        yield f"{place}.with", "is required: what the check looks for"
    else:
        yield from _problems_of_kind(given["with"], f"{place}.with")
    retries = given.get("retries")
    if retries is not None and (type(retries) is not int or not 0 < retries <= MOST_RETRIES_OF_CHECK):
        yield f"{place}.retries", f"must be an integer from 1 to {MOST_RETRIES_OF_CHECK}"
    seconds = given.get("timeout_seconds")
    if seconds is not None and (type(seconds) not in (int, float) or not 0 < seconds <= MONTH_SECONDS):
        yield f"{place}.timeout_seconds", f"must be a number above 0, at most {MONTH_SECONDS:,}"
    if (names := given.get("assignees")) is not None:
        yield from _problems_of_assignees(names, f"{place}.assignees")
    for field, needed in (("retries", (Then.RETRY,)), ("assignees", (Then.ASK,)), ("timeout_seconds", (Then.ASK,))):
        if field in given and then not in needed:
            yield f"{place}.{field}", f"is for a check with `then: {needed[0]}`"
    yield from _problems_of_then(given, then, place)


def _problems_of_then(given: Json, then: str, place: str) -> Iterator[Problem]:
    if then == Then.RETRY and given.get("on") == On.INPUT:
        yield f"{place}.then", "cannot be 'retry' on the input: no model of this task has written it"
    known = given.get("with")
    if (
        then == Then.REDACT
        and isinstance(known, dict)
        and next(iter(known), "") in ("schema", "expression", "length", "judge")
    ):
        kind = next(iter(known))
        yield f"{place}.then", f"cannot be 'redact': a check with `{kind}` does not say where the fault is"


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= NAME_CHARACTERS and "'" not in value and value.isprintable()


def _known(names: Collection[str]) -> str:
    return f"is not known; known are {', '.join(names)}"


def _problems_of_assignees(names: Any, place: str) -> Iterator[Problem]:
    if (
        not isinstance(names, list)
        or not 0 < len(names) <= SCHEMA["maxItems"]
        or not all(isinstance(n, str) and n for n in names)
    ):
        yield place, f"must be a list of 1 to {SCHEMA['maxItems']} user ids, role:operator or role:admin"
    elif problem := fault_of_assignees(names):
        yield place, problem


def _problems_of_kind(given: object, place: str) -> Iterator[Problem]:
    if isinstance(given, str):
        if not given or len(given) > 255:
            yield place, "must have 1 to 255 characters"
        elif given.startswith(FLOW) and not REFERENCE.fullmatch(given.removeprefix(FLOW)):
            yield place, f"the name of the flow {NAME_RULE}, after '{FLOW}'"
        return
    if not isinstance(given, dict) or len(given) != 1 or next(iter(given)) not in KINDS:
        if isinstance(given, dict) and (unknown := sorted(given.keys() - set(KINDS))):
            yield f"{place}.{unknown[0][:255]}", _known(KINDS)
            return
        yield place, f"must be a name, such as secrets or flow:moderate, or an object with one of {', '.join(KINDS)}"
        return
    ((kind, what),) = given.items()
    yield from PROBLEMS[kind](what, f"{place}.{kind}")


def _problems_of_schema(schema: Any, place: str) -> Iterator[Problem]:
    if not isinstance(schema, dict):
        yield place, "must be a JSON Schema: an object"
        return
    if problem := fault(schema):
        yield place, f"is no JSON Schema: {problem}"
        return
    try:
        check_cost(schema)
    except TooCostly as error:
        yield place, str(error)


def _problems_of_expression(condition: Any, place: str) -> Iterator[Problem]:
    yield from (found := list(conditions.problems(condition, place)))
    if not found and (unknown := sorted(set(conditions.tasks_in(condition)) - {VALUE})):
        yield place, f"asks about '{unknown[0][:100]}'. In a check, `task` is '{VALUE}': the value that is checked"


def _problems_of_length(given: Any, place: str) -> Iterator[Problem]:
    names = ("min", "max")
    if not isinstance(given, dict) or not given or given.keys() - set(names):
        yield place, "must be an object with `max`, `min` or both, in characters"
        return
    for name, number in given.items():
        if type(number) is not int or number < 0:
            yield f"{place}.{name}", "must be an integer from 0 up"
            return
    if given.get("min", 0) > given.get("max", given.get("min", 0)):
        yield place, "`min` is above `max`: no text has such a length"


def _problems_of_addresses(given: Any, place: str) -> Iterator[Problem]:
    if not isinstance(given, list) or not given or not all(isinstance(each, str) for each in given):
        yield place, f"must be a list of some of {', '.join(FINDERS)}"
    elif unknown := [each for each in given if each not in FINDERS]:
        yield place, f"'{unknown[0][:100]}' {_known(FINDERS)}"


def _problems_of_judge(given: Any, place: str) -> Iterator[Problem]:
    if not isinstance(given, dict) or "rubric" not in given or given.keys() - {"rubric", "model"}:
        yield place, "must be an object with `rubric`, and `model` if it is another one than that of the task"
        return
    if not isinstance(given["rubric"], str) or not 0 < len(given["rubric"]) <= RUBRIC_CHARACTERS:
        yield f"{place}.rubric", f"must be a text of 1 to {RUBRIC_CHARACTERS:,} characters"
    if "model" in given and not (isinstance(given["model"], str) and 0 < len(given["model"]) <= 255):
        yield f"{place}.model", "must be a model as provider/name"


PROBLEMS: Final[Mapping[str, Callable[[Any, str], Iterator[Problem]]]] = MappingProxyType(
    {
        "schema": _problems_of_schema,
        "expression": _problems_of_expression,
        "length": _problems_of_length,
        "addresses": _problems_of_addresses,
        "judge": _problems_of_judge,
    }
)
VALUE: Final = "value"
"""The name of what is checked, in an expression."""


# --- what is found in texts ---


def _luhn(text: str) -> bool:
    """Return whether the last digit of a card number is right (ISO/IEC 7812-1)."""
    digits = [int(each) for each in reversed(text) if each.isdigit()]
    doubled = [each if index % 2 == 0 else each * 2 - 9 * (each > 4) for index, each in enumerate(digits)]
    return sum(doubled) % 10 == 0


def _length_of_iban(text: str) -> int:
    """Return how many characters of the text are an IBAN with the right check digits (ISO 13616); 0 if none are.

    Words may follow it, so the longest beginning that is right is taken.
    """
    for end in range(len(text), 14, -1):
        found = text[:end].replace(" ", "").upper()
        if text[end - 1] == " " or len(found) < 15:
            continue
        if int("".join(str(int(each, 36)) for each in found[4:] + found[:4])) % 97 == 1:
            return end
    return 0


#: A text is read once from each place where a match may begin, so each takes linear time.
FINDERS: Final[Mapping[str, tuple[str, re.Pattern[str]]]] = MappingProxyType(
    {
        "email": (
            "an e-mail address",
            re.compile(r"(?<![\w.%+-])[\w.%+-]++@[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63}){1,8}", re.ASCII),
        ),
        "iban": (
            "an IBAN",
            re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?: ?[A-Za-z0-9]){11,30}(?![A-Za-z0-9])", re.ASCII),
        ),
        "card": ("a card number", re.compile(r"(?<![\d.])\d(?:[ -]?\d){12,18}(?!\d)", re.ASCII)),
        "phone": (
            "a phone number",
            re.compile(
                r"(?<![\w+])(?:\+|00)\d(?:[ ()./-]{0,2}\d){6,14}(?!\d)"
                r"|(?<!\w)\(0?\d{2,5}\)[ /-]?\d{3,8}(?:[ -]\d{2,6}){0,3}(?!\d)"
                r"|(?<![\w.-])\d{3}[ .-]\d{3}[ .-]\d{4}(?![\w-])"
                r"|(?<![\w.-])0\d{2,4}[ /-]\d{3,8}(?:[ -]\d{2,6}){0,3}(?![\w-])",
                re.ASCII,
            ),
        ),
    }
)
"""The name of each kind of address, and its pattern."""
KEYS: Final = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^-]*+(?:-----END [A-Z ]{0,30}PRIVATE KEY-----)?"
    r"|(?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![0-9A-Za-z])"
    r"|(?<![A-Za-z0-9])(?:ghp|gho|ghu|ghs|ghr|glpat|github_pat)[_-][A-Za-z0-9_-]{16,255}"
    r"|(?<![A-Za-z0-9])(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{8,255}"
    r"|(?<![A-Za-z0-9])xox[abeoprs]-[A-Za-z0-9-]{8,255}",
    re.ASCII,
)
"""Private keys and keys of services, besides those that are masked in all results."""


def without_addresses(text: str, kinds: Collection[str]) -> tuple[str, list[str]]:
    """Return the text with `[redacted]` for each address of these kinds, and what was found."""
    found = dict[str, None]()
    for kind in FINDERS:  # an IBAN before the card number that may be in it
        if kind not in kinds:
            continue
        called, pattern = FINDERS[kind]

        def instead(match: re.Match[str], kind: str = kind, called: str = called) -> str:
            whole = match[0]
            if kind == "card" and not _luhn(whole):
                return whole
            rest = ""
            if kind == "iban":
                if not (length := _length_of_iban(whole)):
                    return whole
                rest = whole[length:]
            found[called] = None
            return REDACTED + rest

        text = pattern.sub(instead, text)
    return text, list(found)


def without_keys(text: str) -> str:
    """Return the text with `[redacted]` for each private key and key of a service."""
    return KEYS.sub(REDACTED, text)


def length_problem(text: str, given: Json) -> str:
    """Return why a text of this length does not pass; empty if it does."""
    most, least = given.get("max"), given.get("min")
    if most is not None and len(text) > most:
        return f"it has {len(text):,} characters, more than {most:,}"
    if least is not None and len(text) < least:
        return f"it has {len(text):,} characters, fewer than {least:,}"
    return ""


def text_of(value: Any) -> str:
    """Return a value as the text that people and models read."""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def verdict_in(result: Any) -> Verdict | None:
    """Read the verdict of a flow, a function, an executor or a judge, `{"ok", "reason", "redacted"}`; None if it is none."""
    if not isinstance(result, dict) or not isinstance(result.get("ok"), bool):
        return None
    reason = result.get("reason")
    return Verdict(ok=result["ok"], reason=reason if isinstance(reason, str) else "", redacted=result.get("redacted"))
