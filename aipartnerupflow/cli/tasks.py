"""`aipartnerupflow tasks …`, `questions …` and `events …`: each command makes one request and prints the reply."""

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aipartnerupflow.cli import output, show
from aipartnerupflow.cli.files import InputsFile, RunInputs, Tags, TasksFile, inputs_of, read_tasks
from aipartnerupflow.cli.options import (
    AsJson,
    Awaited,
    ExitCode,
    Fields,
    Server,
    TaskId,
    TaskIds,
    Timeout,
    Watched,
    asks,
    fields_of,
    json_option,
    to_server,
)

if TYPE_CHECKING:
    from aipartnerupflow.client import Client

tasks = typer.Typer(no_args_is_help=True, help="Create, inspect, run, change and cancel the tasks on a server.")

UserId = Annotated[str | None, typer.Option("--user", help="Only tasks of this user.")]
Status = Annotated[
    list[str] | None,
    typer.Option(
        "--status",
        help="Only trees whose latest run has this status or, with --all, tasks with it; may be repeated.",
    ),
]


@tasks.command("list")
@asks(show.tasks)
def list_tasks(
    client: "Client",
    status: Status = None,
    name: Annotated[str | None, typer.Option(help="Only tasks with this name.")] = None,
    tag: Annotated[str | None, typer.Option(help="Only trees whose latest run has this tag.")] = None,
    text: Annotated[
        str | None, typer.Option(help="Only trees with this text in their name or the errors of their latest run.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Only tasks created at this time or later: a day, or a time in ISO 8601.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Only tasks created before this time.")] = None,
    user: UserId = None,
    every: Annotated[bool, typer.Option("--all", help="Include the tasks below the roots.")] = False,
    oldest: Annotated[bool, typer.Option("--oldest-first", help="List the oldest first, not the newest.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of tasks.")] = 20,
    fields: Fields = None,
) -> Any:
    """List trees by their roots, or all tasks with --all. Inputs, params and results are left out."""
    found = client.list(
        **_given(
            {
                "status" if every else "run_status": status or None,
                "name": name,
                "user_id": user,
                "tag": tag,
                "text": text,
                "since": since,
                "until": until,
            }
        ),
        order="created_at" if oldest else "-created_at",
        root_only=not every,
        summary=True,
        page_size=min(limit, 1000),
        **fields_of(fields),
    )
    return list(islice(found, limit))


@tasks.command()
@asks(show.task)
def get(client: "Client", task_id: TaskId) -> Any:
    """Show one task with all its fields."""
    return client.get(task_id)


@tasks.command()
@asks(show.tree)
def tree(client: "Client", task_id: TaskId) -> Any:
    """Show the whole tree that contains a task."""
    return client.tree(task_id)


@tasks.command()
@asks(show.tasks)
def children(client: "Client", task_id: TaskId) -> Any:
    """List the children of a task."""
    return client.children(task_id)


@tasks.command()
@asks(show.created)
def create(client: "Client", file: TasksFile) -> Any:
    """Store a tree without running it."""
    return client.create(read_tasks(file))


@tasks.command()
@asks(show.task)
def update(
    client: "Client",
    task_id: TaskId,
    name: Annotated[str | None, typer.Option(help="New name.")] = None,
    priority: Annotated[int | None, typer.Option(help="New priority: 0 urgent, 1 high, 2 normal, 3 low.")] = None,
    inputs: Annotated[Any, json_option("New inputs.")] = None,
    params: Annotated[Any, json_option("New params.")] = None,
    schemas: Annotated[Any, json_option("New schemas.")] = None,
    dependencies: Annotated[Any, json_option("New dependencies.")] = None,
) -> Any:
    """Change a task that has not started. Omitted fields keep their values."""
    plain = {"name": name, "priority": priority}
    as_json = {"inputs": inputs, "params": params, "schemas": schemas, "dependencies": dependencies}
    changes = {field: given.value for field, given in as_json.items() if given is not None}
    return client.update(task_id, **_given(plain), **changes)


@tasks.command()
@asks(show.deleted)
def delete(
    client: "Client",
    task_id: TaskId,
    force: Annotated[bool, typer.Option("--force", help="Also delete finished tasks.")] = False,
) -> Any:
    """Delete a task and its descendants, if none of them has started."""
    return client.delete(task_id, force=force)


@tasks.command()
@asks(show.answered)
def answer(
    client: "Client",
    task_id: TaskId,
    answer: Annotated[
        str, typer.Argument(help="One of the options of the question, the JSON object of its form, or any text.")
    ],
    comment: Annotated[str | None, typer.Option(help="A comment, stored with the answer.")] = None,
) -> Any:
    """Answer the open question of a task."""
    return client.answer(task_id, answer, comment=comment)


@tasks.command()
@asks(show.cancelled, exit_code=lambda answers: _first_failure(answers, "failed", ExitCode.FAILED))
def cancel(
    client: "Client",
    task_ids: TaskIds,
    force: Annotated[
        bool, typer.Option("--force", help="Stop running work at once, without time to clean up.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Error message of the cancelled tasks.")] = None,
) -> Any:
    """Cancel tasks and their descendants. Exits 1 if one of them could not be cancelled."""
    return client.cancel(task_ids, force=force, error_message=reason)


@tasks.command()
@asks(show.copied, piped=lambda answer: (output.as_document if isinstance(answer, list) else output.as_lines)(answer))
def copy(
    client: "Client",
    task_id: TaskId,
    children: Annotated[
        bool, typer.Option("--children", help="Also copy dependencies (minimal), or descendants (custom).")
    ] = False,
    mode: Annotated[str | None, typer.Option(help="minimal, full or custom (default: minimal).")] = None,
    only: Annotated[
        list[str] | None, typer.Option(help="Id of a task to copy, with --mode custom; may be repeated.")
    ] = None,
    reset: Annotated[list[str] | None, typer.Option(help="Field to reset in the copy; may be repeated.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the copy without storing it.")] = False,
) -> Any:
    """Copy tasks into a new tree, ready to run."""
    named = {"copy_mode": mode, "custom_task_ids": only or None, "reset_fields": reset or None}
    make = client.preview_copy if dry_run else client.copy
    return make(task_id, children=children, **_given(named))


@tasks.command()
@asks(show.counts)
def count(
    client: "Client",
    user: UserId = None,
    roots: Annotated[bool, typer.Option("--roots", help="Count roots only: one per tree.")] = False,
) -> Any:
    """Count tasks by status."""
    return client.count(user_id=user, root_only=roots)


@tasks.command()
@asks(show.states, exit_code=lambda states: _first_failure(states, "not_found", ExitCode.NOT_FOUND))
def status(client: "Client", task_ids: TaskIds) -> Any:
    """Show the status of tasks; for a root, that of its latest run.

    Exits 3 if a task does not exist.
    """
    return client.status(task_ids)


@tasks.command()
@to_server
def run(
    server: Server,
    task_id: TaskId,
    inputs: RunInputs = None,
    inputs_file: InputsFile = None,
    tags: Tags = None,
    watch: Watched = False,
    wait: Awaited = True,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Run a stored task; a root runs its whole tree. Exits 1 if the run does not complete.

    --input changes inputs of the run before, and --inputs-file replaces all of them.
    """
    from aipartnerupflow.cli import watching
    from aipartnerupflow.client import Client

    given, replaces = inputs_of(inputs, inputs_file, to=server), inputs_file is not None
    code = watching.run(
        server,
        Client.execute(task_id=task_id, run_inputs=given, replace_inputs=replaces, tags=tags),
        is_watched=watch,
        is_awaited=wait,
        timeout_seconds=timeout,
        as_json=as_json,
    )
    raise typer.Exit(code)


@tasks.command()
@to_server
def fork(
    server: Server,
    task_id: TaskId,
    start: Annotated[
        list[str] | None,
        typer.Option("--from", help="Task to begin with; may be repeated (default: those with new inputs, or ID)."),
    ] = None,
    inputs: Annotated[Any, json_option("New inputs of some tasks, by their ids.")] = None,
    run_inputs: RunInputs = None,
    inputs_file: InputsFile = None,
    watch: Watched = False,
    wait: Awaited = True,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Run a tree again in a copy: from some of its tasks, with other inputs. Results of the tasks before them are kept.

    --input changes inputs of the run before, and --inputs-file replaces all of them.
    """
    from aipartnerupflow.cli import watching
    from aipartnerupflow.client import Client

    of_run, replaces = inputs_of(run_inputs, inputs_file, to=server), inputs_file is not None
    of_tasks = None if inputs is None else inputs.value
    code = watching.run(
        server,
        Client.fork(task_id, from_tasks=start or None, inputs=of_tasks, run_inputs=of_run, replace_inputs=replaces),
        is_watched=watch,
        is_awaited=wait,
        timeout_seconds=timeout,
        as_json=as_json,
    )
    raise typer.Exit(code)


@tasks.command()
@to_server
def watch(
    server: Server,
    task_id: TaskId,
    after: Annotated[int, typer.Option(min=0, help="Only events after this sequence number.")] = 0,
    timeout: Timeout = None,
    as_json: AsJson = False,
) -> None:
    """Watch the latest run of a task's tree until it ends. Exits 1 if the run does not complete."""
    from aipartnerupflow.cli import watching

    raise typer.Exit(watching.watch(server, task_id, after=after, timeout_seconds=timeout, as_json=as_json))


def _given(options: dict[str, Any]) -> Any:
    return {name: value for name, value in options.items() if value is not None}


def _first_failure(answers: list[Any], status: str, code: ExitCode) -> ExitCode:
    return code if any(answer["status"] == status for answer in answers) else ExitCode.OK


@asks(show.generated, piped=show.generated)
def generate(
    client: "Client",
    requirement: Annotated[str, typer.Argument(metavar="TEXT", help="The task of the tree, in plain words.")],
    save: Annotated[bool, typer.Option("--save", help="Also store the tree, ready to run.")] = False,
    run: Annotated[bool, typer.Option("--run", help="Also store the tree, and run it.")] = False,
    model: Annotated[str | None, typer.Option(help="Language model to use (default: llm.default_model).")] = None,
) -> Any:
    """Generate a tree of tasks with a language model.

    Prints the JSON file that `run` accepts.
    """
    return client.generate(requirement, model=model, save=save, run=run)


questions = typer.Typer(no_args_is_help=True, help="List the questions that wait for an answer.")


@questions.callback()
def group() -> None:
    """List the questions that wait for an answer."""


@questions.command("list")
@asks(show.questions, piped=lambda answer: output.as_lines(answer["questions"]))
def list_questions(
    client: "Client",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number of questions, the oldest first.")] = 100,
) -> Any:
    """List the open questions of your trees, and those that you may answer as an assignee."""
    return client.questions(limit=limit)


events = typer.Typer(no_args_is_help=True, help="Send events to tasks that wait for them.")


@events.callback()
def group_events() -> None:
    """Send events to tasks that wait for them."""


@events.command("send")
@asks(show.event_sent)
def send(
    client: "Client",
    event: Annotated[str, typer.Argument(help="Name of the event.")],
    payload: Annotated[Any, json_option("Payload of the event, any JSON value.")] = None,
    event_id: Annotated[
        str | None, typer.Option("--id", help="Id of the event. An event that is sent twice with one id counts once.")
    ] = None,
) -> Any:
    """Send an event to your tasks that wait for it."""
    return client.send_event(event, None if payload is None else payload.value, event_id=event_id)
