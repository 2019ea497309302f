"""Example trees that are added to an empty database on the first start."""

from dataclasses import dataclass
from typing import Final

from django.db import transaction

from accounts.callers import LOCAL
from tasks.executors import executor_ids
from tasks.models import Run, Task, TaskEvent
from tasks.queue import fairness
from tasks.rules.strict_json import Json
from tasks.services.trees import create_tree


def _step(task_id: str, name: str, seconds: float, *, after: tuple[str, ...] = (), steps: int = 4) -> Json:
    return {
        "id": task_id,
        "name": name,
        "parent_id": "example-diamond",
        "schemas": {"method": "sleep_executor"},
        "inputs": {"seconds": seconds, "steps": steps},
        "dependencies": list(after),
    }


DIAMOND: Final[list[Json]] = [
    {
        "id": "example-diamond",
        "name": "Diamond: two branches",
        "schemas": {"method": "aggregate_results_executor"},
        "dependencies": ["example-diamond-left", "example-diamond-right"],
    },
    _step("example-diamond-start", "Prepare", 1),
    _step("example-diamond-left", "Left branch", 2, after=("example-diamond-start",)),
    _step("example-diamond-right", "Right branch", 3, after=("example-diamond-start",), steps=6),
]

MACHINE: Final[list[Json]] = [
    {
        "id": "example-machine",
        "name": "System info",
        "schemas": {"method": "aggregate_results_executor"},
        "dependencies": ["example-machine-cpu", "example-machine-memory", "example-machine-disk"],
    },
    *[
        {
            "id": f"example-machine-{resource}",
            "name": name,
            "parent_id": "example-machine",
            "schemas": {"method": "system_info_executor"},
            "inputs": {"resource": resource},
        }
        for resource, name in (("cpu", "CPU"), ("memory", "Memory"), ("disk", "Disk"))
    ],
]

FAN_OUT: Final[list[Json]] = [
    {
        "id": "example-fan-out",
        "name": "Fan-out: 200 steps and a join",
        "schemas": {"method": "aggregate_results_executor"},
        "dependencies": [f"example-fan-out-{number}" for number in range(200)],
    },
    *[
        {
            "id": f"example-fan-out-{number}",
            "name": f"Step {number}",
            "parent_id": "example-fan-out",
            "schemas": {"method": "echo_executor"},
            "inputs": {"number": number},
        }
        for number in range(200)
    ],
]

FAILURE: Final[list[Json]] = [
    {"id": "example-failure", "name": "Failure and skipped dependents"},
    {
        "id": "example-failure-call",
        "name": "Unreachable service",
        "parent_id": "example-failure",
        "schemas": {"method": "rest_executor"},
        "inputs": {"url": "https://service.invalid/"},
        "params": {"retry": {"max_attempts": 3, "backoff_seconds": 1}},
    },
    {
        "id": "example-failure-report",
        "name": "Skipped dependent",
        "parent_id": "example-failure",
        "schemas": {"method": "echo_executor"},
        "dependencies": ["example-failure-call"],
    },
    {
        "id": "example-failure-other",
        "name": "Independent step",
        "parent_id": "example-failure",
        "schemas": {"method": "sleep_executor"},
        "inputs": {"seconds": 2, "steps": 4},
    },
]

PROGRESS: Final[list[Json]] = [
    {
        "id": "example-progress",
        "name": "Progress: 60 steps in one minute",
        "schemas": {"method": "sleep_executor"},
        "inputs": {"seconds": 60, "steps": 60},
    }
]

CREW: Final[list[Json]] = [
    {
        "id": "example-crew",
        "name": "Crew of two agents (demo model, no key needed)",
        "schemas": {"method": "crewai_executor"},
        "inputs": {"topic": "why work gets lost between services"},
        "params": {
            "works": {
                "agents": {
                    "researcher": {
                        "role": "Researcher",
                        "goal": "Find what matters about {topic}",
                        "backstory": "You check every source.",
                        "llm": "demo/crew",
                    },
                    "writer": {
                        "role": "Writer",
                        "goal": "Explain it in three sentences",
                        "backstory": "You write short and clear texts.",
                        "llm": "demo/crew",
                    },
                },
                "tasks": {
                    "research": {
                        "description": "Collect the five most important facts about {topic}.",
                        "expected_output": "A list of five facts",
                        "agent": "researcher",
                    },
                    "report": {
                        "description": "Write a short report on {topic} from these facts.",
                        "expected_output": "Three sentences",
                        "agent": "writer",
                    },
                },
            }
        },
    }
]

APPROVAL: Final[list[Json]] = [
    {
        "id": "example-approval",
        "name": "Report with approval",
        "schemas": {"method": "aggregate_results_executor"},
        "dependencies": ["example-approval-publish"],
    },
    {
        "id": "example-approval-draft",
        "name": "Write a draft",
        "parent_id": "example-approval",
        "schemas": {"method": "echo_executor"},
        "inputs": {"draft": "All systems are operational."},
    },
    {
        "id": "example-approval-question",
        "name": "Approve publication",
        "parent_id": "example-approval",
        "schemas": {"method": "approval_executor"},
        "inputs": {"question": "Publish the draft?", "options": ["yes", "no"]},
        "dependencies": ["example-approval-draft"],
    },
    {
        "id": "example-approval-publish",
        "name": "Publish",
        "parent_id": "example-approval",
        "schemas": {"method": "echo_executor"},
        "dependencies": ["example-approval-draft", "example-approval-question"],
    },
]

MAP: Final[list[Json]] = [
    {
        "id": "example-map",
        "name": "Map: one greeting for each of 20 people",
        "schemas": {"method": "transform_executor"},
        "inputs": {"select": "{count: length(greetings), first: greetings[0].text}"},
        "dependencies": [{"id": "example-map-each", "as": "greetings"}],
    },
    {
        "id": "example-map-people",
        "name": "List of people",
        "parent_id": "example-map",
        "schemas": {"method": "echo_executor"},
        "inputs": {"people": [{"name": f"Person {number}"} for number in range(1, 21)]},
    },
    {
        "id": "example-map-each",
        "name": "Each person",
        "parent_id": "example-map",
        "params": {"for_each": {"items": {"task": "example-map-people", "path": "/people"}, "as": "person"}},
        "dependencies": ["example-map-people"],
    },
    {
        "id": "example-map-greeting",
        "name": "Greet",
        "parent_id": "example-map-each",
        "schemas": {"method": "echo_executor"},
        "inputs": {"text": "Hello, {{person.name}}!"},
    },
]

LOOP: Final[list[Json]] = [
    {
        "id": "example-loop",
        "name": "Loop: improve a draft until it is good",
        "schemas": {"method": "echo_executor"},
        "inputs": {"text": "{{work.example-loop-draft.text}}"},
        "dependencies": [{"id": "example-loop-work", "as": "work"}],
    },
    {
        "id": "example-loop-work",
        "name": "Write and review",
        "parent_id": "example-loop",
        "params": {
            "repeat": {"until": {"path": "/example-loop-review/score", "op": "ge", "value": 4}, "max": 6},
        },
    },
    {
        "id": "example-loop-draft",
        "name": "Draft",
        "parent_id": "example-loop-work",
        "schemas": {"method": "echo_executor"},
        "inputs": {"text": "Draft {{round}}"},
    },
    {
        "id": "example-loop-pause",
        "name": "Think",
        "parent_id": "example-loop-work",
        "schemas": {"method": "sleep_executor"},
        "inputs": {"seconds": 1, "steps": 2},
        "dependencies": ["example-loop-draft"],
    },
    {
        "id": "example-loop-review",
        "name": "Review",
        "parent_id": "example-loop-work",
        "schemas": {"method": "echo_executor"},
        "inputs": {"score": "{{round}}"},
        "dependencies": ["example-loop-pause"],
    },
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A tree, and whether the first start runs it. Skipped if its executor is not installed."""

    tasks: list[Json]
    is_run_at_once: bool = True

    @property
    def root_id(self) -> str:
        return str(self.tasks[0]["id"])

    @property
    def is_possible(self) -> bool:
        return executor_ids().issuperset(task["schemas"]["method"] for task in self.tasks if "schemas" in task)


EXAMPLES: Final = (
    Example(tasks=MACHINE, is_run_at_once=False),  # left for the user to run
    Example(tasks=CREW, is_run_at_once=False),  # loading CrewAI takes a worker several seconds
    Example(tasks=FAN_OUT),
    Example(tasks=FAILURE),
    Example(tasks=APPROVAL),
    Example(tasks=DIAMOND),
    Example(tasks=MAP),
    Example(tasks=LOOP),
    Example(tasks=PROGRESS),
)
"""The examples in the order of creation; lists show the newest first."""


@transaction.atomic
def init_examples(*, force: bool = False, run: bool = False) -> list[str]:
    """Create the missing examples and return the ids of their roots. `force`: replace existing examples that are not running.

    `run`: queue the examples with `is_run_at_once`.
    """
    if force:
        running = Run.objects.unfinished().filter(root_id__in=_root_ids()).values_list("root_id", flat=True)
        idle = set(_root_ids()) - set(running)
        runs = Run.objects.filter(root_id__in=idle)
        TaskEvent.objects.filter(run_id__in=runs.values("id")).delete()
        fairness.keep_turn(runs)
        runs.delete()
        Task.objects.filter(root_id__in=idle).delete()
    present = set(Task.objects.filter(id__in=_root_ids()).values_list("id", flat=True))
    missing = [example for example in EXAMPLES if example.root_id not in present and example.is_possible]
    for example in missing:
        create_tree(caller=LOCAL, tasks=example.tasks, execute=run and example.is_run_at_once)
    return [example.root_id for example in missing]


def fill_empty_database(*, run: bool) -> list[str]:
    """Create the examples if the database has no tasks (the guide's first start)."""
    return [] if Task.objects.exists() else init_examples(run=run)


def _root_ids() -> list[str]:
    return [example.root_id for example in EXAMPLES]
