"""`aipartnerupflow datasets …` and `evals …`: rows with what is expected, and versions of a flow that are compared on them."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn
from xml.etree import ElementTree as Xml

import typer

from aipartnerupflow.cli import output
from aipartnerupflow.cli.files import Tags, read_bytes, read_document, read_object
from aipartnerupflow.cli.options import AsJson, Awaited, ExitCode, Server, Timeout, asks, refuse, to_server
from aipartnerupflow.cli.output import clean, note, put, table
from aipartnerupflow.costs import price
from aipartnerupflow.program import command as command_line

if TYPE_CHECKING:
    from aipartnerupflow.client import Client
    from aipartnerupflow.client.types import (
        AddedRuns,
        DatasetDeleted,
        DatasetRows,
        Datasets,
        ExperimentCase,
        ExperimentResult,
        Experiments,
        SavedDataset,
        VariantScore,
    )

datasets = typer.Typer(
    no_args_is_help=True, help="Save, list and delete data sets: rows of inputs, with what is expected."
)
evals = typer.Typer(no_args_is_help=True, help="Run versions of a flow on a data set, and compare their scores.")

SHOWN: Final = 10
"""The number of cases that a terminal shows."""
PAGE: Final = 1000
AGO: Final = re.compile(r"([1-9][0-9]{0,4})([dh])")
NUMBERED: Final = re.compile(r"rows\[(\d+)\]\.?")
Name = Annotated[str, typer.Argument(help="Name of the data set.")]
User = Annotated[str | None, typer.Option("--user", help="Owner of the data set (default: you). Administrators only.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="Id of the experiment.")]


def show_saved(answer: "SavedDataset") -> None:
    name = clean(answer["name"])
    if not answer["is_new"]:
        note(f"Version {answer['version']:,} of the data set {name} has these rows already. Nothing was saved.")
        return
    replaced = (
        f" {answer['replaced']:,} had the inputs of another row and took its place." if answer["replaced"] else ""
    )
    note(f"Saved version {answer['version']:,} of the data set {name}: {answer['count']:,} rows.{replaced}")


def show_added(answer: "AddedRuns") -> None:
    known = answer["runs"] - answer["added"]
    there = f" {known:,} of them {'has' if known == 1 else 'have'} the inputs of another row." if known else ""
    if not answer["is_new"]:
        note(f"Nothing was added to the data set {clean(answer['name'])}.{there}")
        return
    note(
        f"Saved version {answer['version']:,} of the data set {clean(answer['name'])}: {answer['count']:,} rows, "
        f"{answer['added']:,} of them new, from {answer['runs']:,} runs.{there}"
    )


def show_datasets(answer: "Datasets") -> None:
    from aipartnerupflow.cli.show import age

    made = table("NAME", "VERSION", "ROWS", "FLOW", "OWNER", "SAVED")
    for each in answer["datasets"]:
        cells = (clean(each["name"]), f"{each['version']:,}", f"{each['count']:,}", clean(each["flow"] or ""))
        made.add_row(*cells, clean(each["user_id"]), age(each["created_at"]))
    put(made)
    if not answer["datasets"]:
        note(f"No data sets yet. Save one: {command_line('datasets', 'save', 'NAME', 'rows.csv')}")
    if answer["next_cursor"] is not None:
        note("There are more. Raise --limit.")


def show_deleted(answer: "DatasetDeleted") -> None:
    note(f"Deleted the data set {clean(answer['name'])} and its {answer['versions_deleted']:,} versions.")


@datasets.command("save")
@asks(show_saved)
def save(
    client: "Client",
    name: Name,
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV with the columns inputs.NAME, expected and tags; or rows {inputs, expected, tags} as JSONL, YAML or JSON."
        ),
    ],
    flow: Annotated[
        str | None, typer.Option("--flow", help="Flow whose inputs the rows are, and by which they are checked.")
    ] = None,
    append: Annotated[bool, typer.Option("--append", help="Add to the rows of the newest version.")] = False,
) -> "SavedDataset":
    """Save the next version of a data set from a file. In CSV, a cell is JSON or, if it is not valid JSON, a text."""
    from aipartnerupflow.client import InvalidRequest
    from tasks.rules.dataset_files import Unreadable, rows_in

    try:
        rows = rows_in(read_bytes(file), file.name)
    except Unreadable as error:
        refuse(f"{file}{'' if error.line is None else f':{error.line}'}: {error}")
    try:
        return client.save_dataset(name, [each.row for each in rows], append=append, flow=flow)
    except InvalidRequest as error:
        faults = error.data if isinstance(error.data, list) else []
        found = [(NUMBERED.match(fault["field"]), fault) for fault in faults]
        if not found or not all(place for place, _ in found):
            raise
        _refuse_lines(
            [
                f"{file}:{rows[int(place[1])].line}: {fault['field'][place.end() :]}: {fault['reason']}"
                for place, fault in found
                if place
            ]
        )


def _refuse_lines(lines: list[str]) -> NoReturn:
    output.error(*lines)
    raise typer.Exit(ExitCode.REFUSED)


@datasets.command("add")
@asks(show_added)
def add(
    client: "Client",
    name: Name,
    run: Annotated[
        list[str] | None,
        typer.Argument(help="Ids of runs of a flow, or of trees, whose latest run is meant."),
    ] = None,
    flow: Annotated[
        str | None, typer.Option("--flow", help="The newest runs of this flow, except those of experiments and demos.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only runs of the flow from this time on: a time in ISO 8601, or such as 7d or 12h."),
    ] = None,
    status: Annotated[
        list[str] | None, typer.Option(help="Only runs of the flow with this status (completed). May be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, max=1000, help="The most runs of the flow (100).")] = None,
    expected: Annotated[
        str | None,
        typer.Option(
            help="The expected value: the last `answer` of a person in the run (default), its `result`, or `nothing`."
        ),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="A tag of the new rows. May be repeated.")] = None,
) -> "AddedRuns":
    """Add rows from runs to a data set: a run whose inputs it has already adds none."""
    if since is not None and (ago := AGO.fullmatch(since)):
        since = (datetime.now(UTC) - timedelta(**{"days" if ago[2] == "d" else "hours": int(ago[1])})).isoformat()
    return client.add_runs(
        name,
        run,
        flow=flow,
        status=status,
        since=since,
        limit=limit,
        expected=expected,
        tags=tag,
    )


@datasets.command("list")
@asks(show_datasets, piped=lambda answer: output.as_lines(answer["datasets"]))
def list_datasets(
    client: "Client",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of data sets.")] = 100,
    user: Annotated[str | None, typer.Option("--user", help="Only data sets of this user.")] = None,
) -> "Datasets":
    """List data sets by name, with their newest version."""
    return client.datasets(limit=limit, user_id=user)


@datasets.command("show")
@asks(output.as_document)
def show_dataset(
    client: "Client",
    name: Name,
    version: Annotated[int | None, typer.Option("--version", min=1, help="Version (default: the newest).")] = None,
    user: User = None,
) -> "DatasetRows":
    """Print a data set as JSON, in the form that `datasets save` reads."""
    return client.dataset(name, version=version, user_id=user)


@datasets.command("delete")
@asks(show_deleted)
def delete(client: "Client", name: Name, user: User = None) -> "DatasetDeleted":
    """Delete a data set and its versions. Experiments keep the cases that they have run."""
    return client.delete_dataset(name, user_id=user)


@evals.command("run")
@to_server
def run(
    server: Server,
    dataset: Annotated[str, typer.Argument(help="Name of the data set.")],
    exact: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[=/POINTER]",
            help="Score whether the result, or the value at a JSON Pointer in it, is what is expected. May be repeated.",
        ),
    ] = None,
    expression: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=JMESPATH",
            help="Score by an expression about inputs, expected and result: a number, a boolean or a category. May be repeated.",
        ),
    ] = None,
    schema: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE", help="Score whether the result fits the JSON Schema in a file. May be repeated."
        ),
    ] = None,
    lower: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A lower value of this score is better. May be repeated."),
    ] = None,
    evaluator: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FILE",
            help="Score by what a file in YAML or JSON has: a judge, a pair_judge or a person, for example. May be repeated.",
        ),
    ] = None,
    flow: Annotated[str | None, typer.Option("--flow", help="Flow (default: that of the data set).")] = None,
    version: Annotated[
        list[int] | None,
        typer.Option(
            "--version",
            min=1,
            help="Version of the flow. Each further one is compared with the first (default: the newest two).",
        ),
    ] = None,
    variant: Annotated[
        list[str] | None,
        typer.Option(
            metavar="JSON",
            help='Instead of --version: what is compared, such as \'{"model": "openai/gpt-4o-mini", "temperature": 0}\'. May be repeated.',
        ),
    ] = None,
    workflow: Annotated[str | None, typer.Option("--workflow", help="Workflow, instead of a flow.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of all calls of models.")] = None,
    cache: Annotated[
        str | None, typer.Option(metavar="AGE", help="Take results from the cache that are no older, such as 1d.")
    ] = None,
    budget: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="Limit of what the experiment may use, such as '{\"cost_usd\": 5}'."),
    ] = None,
    dataset_version: Annotated[
        int | None, typer.Option(min=1, help="Version of the data set (default: the newest).")
    ] = None,
    split: Annotated[
        str | None, typer.Option(metavar="TAG", help="Only the rows with this tag (default: all).")
    ] = None,
    repeats: Annotated[int | None, typer.Option(min=1, max=100, help="Runs of each version for each row.")] = None,
    at_once: Annotated[int | None, typer.Option(min=1, max=1000, help="Runs in progress at a time (10).")] = None,
    tag: Tags = None,
    wait: Awaited = True,
    timeout: Timeout = None,
    fail_below: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NUMBER",
            help="Exit with 1 if the mean of this score is lower for the last version. May be repeated.",
        ),
    ] = None,
    junit: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the cases as JUnit XML.")] = None,
    as_json: AsJson = False,
) -> None:
    """Run versions of a flow on a data set, wait, and print their scores and the difference."""
    from aipartnerupflow.cli import show, watching
    from aipartnerupflow.client import Client

    evaluators = _evaluators(exact or [], expression or [], schema or [], evaluator or [])
    for name in lower or []:
        if name not in (known := {each["name"]: each for each in evaluators}):
            refuse(f"--lower {name}: there is no score of this name.")
        known[name]["better"] = "lower"
    least = {name: _number(text, name) for name, text in map(_pair, fail_below or [])}
    if unknown := sorted(least.keys() - {each["name"] for each in evaluators}):
        refuse(f"--fail-below {unknown[0]}: there is no score of this name.")
    if not wait and (least or junit or timeout is not None):
        refuse("--no-wait returns at once, so it cannot be combined with --fail-below, --junit or --timeout.")
    call = Client.run_experiment(
        dataset,
        evaluators,
        flow=flow,
        workflow=workflow,
        versions=version,
        variants=[given for text in variant if (given := read_object("--variant", text)) is not None]
        if variant
        else None,
        seed=seed,
        cache=cache,
        budget=read_object("--budget", budget),
        dataset_version=dataset_version,
        split=split,
        repeats=repeats,
        at_once=at_once,
        tags=tag,
    )
    with Client(server.url, token=server.token) as client:
        started = client.send(call)
        experiment_id = started["root_task_id"]
        if not wait:
            output.answer(started, shown=show.started, piped=show.started, as_json=as_json)
            if not as_json:
                note(f"Its scores so far: {command_line('evals', 'show', experiment_id)}")
            return
        ending = watching.ended(server, experiment_id, timeout_seconds=timeout, as_json=as_json)
        found = _whole(client, experiment_id) if junit or as_json else client.experiment(experiment_id, limit=SHOWN)
    if junit is not None:
        try:
            junit.write_bytes(_junit(found))
        except OSError as error:
            refuse(f"Cannot write {junit}: {error.strerror or error}.")
    output.answer(found, shown=show_result, piped=show_result, as_json=as_json)
    raise typer.Exit(ExitCode.FAILED if _is_below(found, least) else ending.exit_code)


@evals.command("show")
@asks(lambda answer: show_result(answer), piped=output.as_document)
def show_experiment(
    client: "Client",
    experiment_id: Id,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of cases.")] = SHOWN,
    worse: Annotated[
        bool, typer.Option("--worse", help="First the cases in which a further version is worse than the first.")
    ] = False,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="Print a line for each run of all cases as CSV, and nothing else.")
    ] = False,
) -> "ExperimentResult":
    """Print the scores of an experiment, the difference, and the cases in which its versions differ most."""
    if as_csv:
        from aipartnerupflow import cases

        found = _whole(client, experiment_id)
        names = dict.fromkeys(name for case in found["results"] for name in case["inputs"])
        columns = cases.columns_of(names, [each["name"] for each in found["evaluators"]])
        in_order = sorted(found["results"], key=lambda case: case["number"])
        typer.echo(cases.as_csv(cases.flat(in_order), columns), nl=False)
        raise typer.Exit
    return client.experiment(experiment_id, limit=limit, order="worse" if worse else None)


@evals.command("list")
@asks(lambda answer: show_experiments(answer), piped=lambda answer: output.as_lines(answer["experiments"]))
def list_experiments(
    client: "Client",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of experiments.")] = 100,
    user: Annotated[str | None, typer.Option("--user", help="Only experiments of this user.")] = None,
) -> "Experiments":
    """List experiments, the newest first."""
    return client.experiments(limit=limit, user_id=user)


def show_experiments(answer: "Experiments") -> None:
    from aipartnerupflow.cli.show import age, sign

    made = table("", "ID", "FLOW", "COMPARED", "DATA SET", "CASES", "STATUS", "AGE")
    for each in answer["experiments"]:
        status = each["status"] or "pending"
        of_set = f"{clean(each['dataset'])} v{each['dataset_version']:,}"
        versions = clean(", ".join(each["names"]))
        cells = (clean(each["id"]), clean(each["flow"]), versions, of_set, f"{each['cases']:,}", status)
        made.add_row(sign(status), *cells, age(each["created_at"]))
    put(made)
    if not answer["experiments"]:
        note(f"No experiments yet. Run one: {command_line('evals', 'run', 'DATASET', '--exact', 'accuracy')}")
    if answer["next_cursor"] is not None:
        note("There are more. Raise --limit.")


def show_result(answer: "ExperimentResult") -> None:
    """Print the differences in words, the scores of each version, and the cases that differ most."""
    for difference in answer["differences"]:
        output.line(f"{difference['evaluator']}: {difference['text']}")
    variants = answer["variants"]
    made = table("", *(clean(each["name"]).upper() for each in variants))
    for evaluator in answer["evaluators"]:
        name = evaluator["name"]
        made.add_row(clean(name), *(_measured(each["scores"][name]) for each in variants))
    made.add_row("runs", *(_runs(each) for each in variants))
    made.add_row("seconds", *("" if each["seconds"] is None else f"{each['seconds']:,.2f}" for each in variants))
    made.add_row("tokens", *(f"{each['total_tokens']:,}" for each in variants))
    made.add_row("cost", *("" if each["cost_usd"] is None else price(each["cost_usd"]) for each in variants))
    put(made)
    if answer["slices"]:
        of_tags = table("TAG", "CASES", *(f"{each['name']}" for each in answer["evaluators"]))
        for each in answer["slices"]:
            means = (
                " → ".join("–" if mean is None else f"{mean:.2f}" for mean in each["means"][evaluator["name"]])
                for evaluator in answer["evaluators"]
            )
            of_tags.add_row(clean(each["tag"]), f"{each['cases']:,}", *means)
        put(of_tags)
    for case in answer["results"]:
        if case["disagreement"]:
            output.line(f"Row {case['number'] + 1:,} differs: {_scores(case)}")
    note(f"All of it: {command_line('evals', 'show', clean(answer['id']), '--json')}")


def _measured(score: "VariantScore") -> str:
    estimate = score["estimate"]
    text = ", ".join(f"{clean(word)} {count:,}" for word, count in score["categories"].items())
    if not text:
        text = "" if estimate is None else f"{estimate['mean']:.2f}"
        if estimate is not None and estimate["low"] is not None and estimate["high"] is not None:
            text += f" ({estimate['low']:.2f} to {estimate['high']:.2f})"
    return text + (f" {score['not_scored']:,} not scored" if score["not_scored"] else "")


def _runs(variant: Any) -> str:
    others = [f", {variant[name]:,} {name}" for name in ("failed", "unfinished") if variant[name]]
    return f"{variant['completed']:,}{''.join(others)}"


def _scores(case: "ExperimentCase") -> str:
    return "; ".join(
        f"{clean(each['variant'])} "
        + ", ".join(f"{clean(name)} {_shown(score['value'])}" for name, score in each["scores"].items())
        for each in case["runs"]
    )


def _shown(value: Any) -> str:
    return (
        "not scored"
        if value is None
        else {True: "yes", False: "no"}[value]
        if isinstance(value, bool)
        else clean(f"{value}")
    )


def _evaluators(
    exact: list[str], expressions: list[str], schemas: list[str], others: list[str]
) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for given in exact:
        name, equals, path = given.partition("=")
        found.append({"name": name, "with": {"exact": {"path": path}} if equals else "exact"})
    found += [{"name": name, "with": {"expression": text}} for name, text in map(_pair, expressions)]
    found += [{"name": name, "with": {"schema": read_document(Path(text))}} for name, text in map(_pair, schemas)]
    found += [{"name": name, "with": read_document(Path(text))} for name, text in map(_pair, others)]
    if not found:
        refuse(
            "Name a score: --exact accuracy, --expression NAME=JMESPATH, --schema NAME=FILE or --evaluator NAME=FILE."
        )
    return found


def _pair(given: str) -> tuple[str, str]:
    name, _, value = given.partition("=")
    if not (name and value):
        refuse(f"{given} has no value: write NAME=VALUE.")
    return name, value


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        refuse(f"--fail-below {name}: '{text}' is not a number.")


def _whole(client: "Client", experiment_id: str) -> "ExperimentResult":
    """Return the result with all of its cases."""
    from aipartnerupflow.client.eval_calls import case_pages

    found = client.experiment(experiment_id, limit=PAGE)
    page = found
    while (call := case_pages(experiment_id, page)) is not None:
        page = client.send(call)
        found["results"] += page["results"]
    return found | {"next_cursor": None}


def _is_below(found: "ExperimentResult", least: dict[str, float]) -> bool:
    """Return whether a mean of the last version is too low, or there is none, and say which."""
    scores = found["variants"][-1]["scores"]
    is_below = False
    for name, number in least.items():
        estimate = scores[name]["estimate"]
        if estimate is None or estimate["mean"] < number:
            is_below = True
            mean = "has no mean" if estimate is None else f"is {estimate['mean']:.4g}"
            output.error(f"{clean(name)} {mean}, and at least {number:g} was asked for.")
    return is_below


def _junit(found: "ExperimentResult") -> bytes:
    """Return JUnit's XML: a suite for each variant, in it a test for each case and score. False is a failure, and not scored an error."""
    root = Xml.Element("testsuites", name=f"{found['flow']} on {found['dataset']}")
    for variant in found["variants"]:
        suite = Xml.SubElement(root, "testsuite", name=clean(variant["name"]))
        counts = {"tests": 0, "failures": 0, "errors": 0}
        for case in sorted(found["results"], key=lambda case: case["number"]):
            for run_ in (each for each in case["runs"] if each["variant"] == variant["name"]):
                for name, score in run_["scores"].items():
                    title = f"row {case['number'] + 1}" + (
                        f", repeat {run_['repeat'] + 1}" if found["repeats"] > 1 else ""
                    )
                    test = Xml.SubElement(suite, "testcase", classname=name, name=title)
                    counts["tests"] += 1
                    if score["value"] is None:
                        counts["errors"] += 1
                        Xml.SubElement(test, "error", message=clean(score["reason"] or "not scored"))
                    elif score["value"] is False:
                        counts["failures"] += 1
                        Xml.SubElement(test, "failure", message=clean(score["reason"] or "not as expected"))
                    else:
                        output = Xml.SubElement(test, "system-out")
                        output.text = _shown(score["value"])
        suite.attrib |= {key: str(value) for key, value in counts.items()}
    return bytes(Xml.tostring(root, encoding="utf-8", xml_declaration=True))
