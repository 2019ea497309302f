"""The help of all commands: its form, and one example at the end of each."""

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

WORDS: Final = MappingProxyType({"str": "TEXT", "int": "NUMBER", "float": "NUMBER", "path": "FILE"})
"""Type of Python → its word in the help."""

OF_SERVER: Final = ("--url", "--token", "--config")


class PlainCommand(TyperCommand):
    """A command with plain help."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx), ctx)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        # `{ID...}...` is `ID...`; what may be omitted keeps its brackets.
        return [re.sub(r"^\{(.+?)(?:\.\.\.)?\}", r"\1", piece) for piece in super().collect_usage_pieces(ctx)]


class PlainGroup(TyperGroup):
    """A group of commands with plain help. The options that name a server may precede the command."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx), ctx)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move these options behind the words of the command, which has them."""
        words, moved, rest = list[str](), list[str](), [*args]
        command: Any = self
        while rest and isinstance(command, TyperGroup):
            name, equals, _ = rest[0].partition("=")
            if name in OF_SERVER:
                count = 1 if equals else 2
                moved, rest = [*moved, *rest[:count]], rest[count:]
            elif found := command.commands.get(rest[0]):
                command, words, rest = found, [*words, rest[0]], rest[1:]
            else:  # another option, or no command: the error is about that
                break
        if not isinstance(command, TyperGroup):
            words += moved
        return super().parse_args(ctx, [*words, *rest])


def _plain(params: Iterable[Any], ctx: Any) -> list[Any]:
    """Name arguments in capitals and give each option the type that help prints."""
    found = list(params)
    for param in found:
        if isinstance(param, TyperOption):
            param.metavar = _type(param, ctx) if param.metavar is None else param.metavar
        else:
            param.metavar = param.metavar or param.name.upper()
            param.display_type_rich = lambda ctx: None  # its name is enough
    return found


def _type(option: Any, ctx: Any) -> str:
    """Return the text after the option: TEXT, NUMBER or FILE; its range follows it. Empty for a flag."""
    if option.is_flag:
        return ""
    found = re.fullmatch(r"<(?:list\[)?(\w+)(?: range)?\]?>(.*)", option.display_type(ctx))
    return option.display_type(ctx) if found is None else f"{WORDS.get(found[1], found[1].upper())}{found[2]}"


EXAMPLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "serve": "serve --host 0.0.0.0 --port 8080",
        "dev": "dev docs/examples/own-code",
        "worker": "worker --config config.yaml",
        "run": "run docs/examples/hello.json --watch",
        "logs": "logs example-diamond",
        "generate": "generate 'compare the weather of two cities' > tree.json",
        "doctor": "doctor --json",
        "explain": "explain example-failure-report",
        "executors": "executors --json",
        "audit": "audit --action login.failed --since 2026-11-25",
        "backup": "backup /backups/aipartnerupflow.sqlite3",
        "import": "import ~/.aipartnerup/data/aipartnerupflow.duckdb --dry-run",
        "migrate": "migrate --config config.yaml",
        "open": "open example-diamond",
        "status": "status --since 24h",
        "usage": "usage --by day --by model --since 2026-11-01",
        "pause": "pause executor sleep_executor",
        "resume": "resume executor sleep_executor",
        "version": "version",
        "tasks list": "tasks list --status failed --status cancelled --limit 50",
        "tasks get": "tasks get example-diamond --json",
        "tasks tree": "tasks tree example-diamond",
        "tasks children": "tasks children example-diamond",
        "tasks create": "tasks create docs/examples/hello.json",
        "tasks update": "tasks update example-progress --priority 0 --inputs '{\"seconds\": 5}'",
        "tasks delete": "tasks delete example-diamond --force",
        "tasks cancel": "tasks cancel example-progress --reason 'not needed any more'",
        "tasks answer": "tasks answer example-approval-question yes --comment 'Good'",
        "tasks copy": "tasks copy example-diamond --mode full",
        "tasks count": "tasks count --roots",
        "tasks status": "tasks status example-diamond example-progress",
        "tasks run": "tasks run example-diamond --watch",
        "tasks fork": "tasks fork example-failure --from example-failure-call",
        "tasks watch": "tasks watch example-progress --timeout 60",
        "questions list": "questions list --json",
        "events send": 'events send order.paid --payload \'{"order_id": "42"}\'',
        "runs list": "runs list --status failed --since 2026-11-25",
        "runs show": "runs show 01998a3f-5a2b-7c11-9d5e-0a1b2c3d4e5f",
        "runs calls": "runs calls 01998a3f-5a2b-7c11-9d5e-0a1b2c3d4e5f --task summary",
        "runs tree": "runs tree 01998a3f-5a2b-7c11-9d5e-0a1b2c3d4e5f",
        "runs export": "runs export 01998a3f-5a2b-7c11-9d5e-0a1b2c3d4e5f",
        "runs download": "runs download 01998a3f-5a2b-7c11-9d5e-0a1b2c3d4e5f results",
        "runs feedback": "runs feedback RUN false --note 'It was evening.'",
        "runs compare": "runs compare RUN_A RUN_B --changed-only",
        "flows list": "flows list --json",
        "flows show": "flows show greet --version 1",
        "flows save": "flows save flow.yaml",
        "flows export": "flows export greet greet.zip",
        "flows import": "flows import greet.zip --name welcome",
        "flows versions": "flows versions greet",
        "flows pause": "flows pause report",
        "flows resume": "flows resume report",
        "flows delete": "flows delete greet",
        "flows label": "flows label greet production --version 1 --reason 'The first release'",
        "flows undo-label": "flows undo-label greet production --reason 'Too early'",
        "flows unlabel": "flows unlabel greet candidate --reason 'It is released'",
        "flows labels": "flows labels greet",
        "flows validate": "flows validate docs/examples/publish.yaml",
        "skill install": "skill install .agents/skills",
        "schedules create": "schedules create docs/examples/hello.json --cron '0 6 * * 1-5' --timezone Europe/Berlin",
        "schedules update": "schedules update 01a2b3c4 --cron '0 7 * * *'",
        "schedules list": "schedules list --active",
        "schedules get": "schedules get 01a2b3c4 --json",
        "schedules delete": "schedules delete 01a2b3c4",
        "schedules pause": "schedules pause 01a2b3c4 --reason Holidays",
        "schedules resume": "schedules resume 01a2b3c4",
        "schedules trigger": "schedules trigger 01a2b3c4 --overlap allow",
        "schedules backfill": "schedules backfill 01a2b3c4 --from 2026-11-01T00:00 --to 2026-11-02T00:00",
        "schedules preview": "schedules preview --cron '30 2 * * *' --timezone Europe/Berlin",
        "schedules runs": "schedules runs 01a2b3c4 --limit 50",
        "notifications set": "notifications set on-call --to https://hooks.example.com/apflow --flow report",
        "notifications list": "notifications list --json",
        "notifications test": "notifications test on-call",
        "notifications delete": "notifications delete on-call",
        "webhooks list": "webhooks list 019db6a2-5f0e-7c11-8d57-1f0f4f9a7c11",
        "webhooks delete": "webhooks delete 019db6a2-6a3b-7d02-9c44-2a1b3c4d5e6f",
        "hooks set": 'hooks set github --verifier github --secret github_hook --flow triage --inputs \'{"title": "{{body.issue.title}}"}\'',
        "hooks list": "hooks list --json",
        "hooks get": "hooks get github",
        "hooks deliveries": "hooks deliveries github --limit 20",
        "hooks replay": "hooks replay github 17",
        "hooks delete": "hooks delete github",
        "secrets set": "secrets set github_token --host api.github.com",
        "secrets list": "secrets list --json",
        "secrets delete": "secrets delete github_token",
        "limits list": "limits list --json",
        "limits get": "limits get crm",
        "limits set": """limits set crm '{"match": {"host": "crm.example.com"}, "at_once": 4}'""",
        "limits delete": "limits delete crm",
        "cache list": "cache list",
        "cache clear": "cache clear --executor llm_executor",
        "judges set": """judges set greet length '{"expression": "length(result.text)"}' --sample 10""",
        "judges list": "judges list greet",
        "judges delete": "judges delete greet length",
        "datasets save": "datasets save people people.csv --flow greet",
        "datasets add": "datasets add people --flow greet --since 7d --limit 50",
        "datasets list": "datasets list",
        "datasets show": "datasets show people --version 1",
        "datasets delete": "datasets delete people",
        "evals run": "evals run people --exact accuracy=/text --fail-below accuracy=0.9",
        "evals show": "evals show ID",
        "evals list": "evals list --limit 10",
        "files put": "files put report.pdf",
        "files get": "files get FILE_ID report.pdf",
        "files ls": "files ls --json",
        "files rm": "files rm FILE_ID",
        "files link": "files link FILE_ID --minutes 5",
        "examples init": "examples init --force",
        "users create": "users create alice --role admin",
        "users list": "users list --json",
        "users disable": "users disable alice",
        "users enable": "users enable alice",
        "users set-password": "users set-password alice",
        "users set-role": "users set-role alice viewer",
        "tokens create": "tokens create alice --name prometheus --read-only --days 365",
        "tokens list": "tokens list --user alice",
        "tokens revoke": "tokens revoke apf_1a2b3c4d",
        "keys set": "keys set openai",
        "keys list": "keys list",
        "keys delete": "keys delete openai",
        "keys rotate": "keys rotate",
        "maintenance on": "maintenance on --config config.yaml",
        "maintenance off": "maintenance off",
        "config show": "config show --json",
    }
)


def complete_help(app: typer.Typer, *, group: str = "") -> None:
    """Give all commands and groups plain help, and each command its example as the epilog."""
    app.info.cls = PlainGroup
    for command in app.registered_commands:
        if command.callback is None:
            continue
        command.cls = PlainCommand
        name = command.name or command.callback.__name__.replace("_", "-")
        if example := EXAMPLES.get(f"{group} {name}".strip()):
            command.epilog = f"Example: aipartnerupflow {example}"
    for below in app.registered_groups:
        if below.typer_instance is not None and below.name:
            complete_help(below.typer_instance, group=f"{group} {below.name}".strip())
