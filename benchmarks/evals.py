"""Measures an experiment beside the same calls of models as a bare map, and its calls beside those of the map.

    python -m benchmarks.evals [sqlite] [postgres] [--cases 1000]

So many cases, two variants of a flow that calls a model, and a model as judge, at a provider on loopback that answers
after SECONDS. The map has an item for each of these answers: a task that calls the model, and one that judges. Both run on
one server, 100 at once, first the experiment. Prints Markdown.
"""

import asyncio
import json
import os
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.engine import Figures, Task, figures_of, working
from benchmarks.model_server import Provider, provided

CASES: Final = 1_000
WARM: Final = 20
AT_ONCE: Final = 100
SECONDS: Final = 0.1
VERDICT: Final = json.dumps({"reason": "It greets.", "score": True})
RULE: Final = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "score": {"type": "boolean"}},
    "required": ["reason", "score"],
    "additionalProperties": False,
}
JUDGING: Final = {"type": "json_schema", "json_schema": {"name": "score", "schema": RULE}}
ASKED: Final = "You judge an answer by this rubric alone: Does it greet? Give the reason first."


@dataclass(slots=True)
class Judge(Provider):
    """Says the same to all: as an answer it is any text, and as a verdict it is one."""

    seconds: float = SECONDS
    text: str = VERDICT


def bare_map(cases: int) -> list[Task]:
    """Return the tree with the same calls: each item calls a model, and a judge of what that said."""
    model = {"schemas": {"method": "llm_executor"}}
    judged: dict[str, Any] = {"prompt": f"{ASKED}\n{{{{answer.content}}}}", "model": "openai/judge"}
    for_each = {"items": list(range(2 * cases)), "max_parallel": AT_ONCE, "max_items": 2 * cases}
    return [
        {"id": "map", "name": "Map", "params": {"for_each": for_each}},
        {
            "id": "judge",
            "name": "Judge",
            "parent_id": "map",
            "dependencies": ["answer"],
            "inputs": judged | {"response_format": JUDGING},
            **model,
        },
        {
            "id": "answer",
            "name": "Answer",
            "parent_id": "judge",
            "inputs": {"prompt": "Greet {{item}}.", "model": "openai/answer"},
            **model,
        },
    ]


async def ended(run_id: str, started: float) -> float:
    from tasks import events

    async for event in events.follow(run_id):
        if event["type"] == "final":
            assert event["status"] == "completed", event
    return time.perf_counter() - started


async def both(cases: int) -> Figures:
    """Return the seconds of the experiment, and of the map."""
    from accounts.callers import LOCAL
    from apflow_site.db import pools
    from llmkeys.providers import SentKey
    from llmkeys.secret import Secret
    from tasks.services.evals.datasets import save_dataset
    from tasks.services.evals.experiments import run_experiment
    from tasks.services.trees import execute_tree

    key = SentKey(provider="openai", key=Secret("sk-of-the-benchmark"))
    rows = [{"inputs": {"who": f"n{number}"}} for number in range(cases)]
    await pools.write(save_dataset, caller=LOCAL, name="people", rows=rows, flow="greet")
    judge = {"name": "greets", "with": {"judge": {"rubric": "Does it greet?", "model": "openai/judge"}}}
    started = time.perf_counter()
    execution = await pools.write(
        run_experiment,
        caller=LOCAL,
        dataset="people",
        evaluators=[judge],
        variants=[{"model": "openai/one"}, {"model": "openai/other"}],
        at_once=AT_ONCE,
        llm_key=key,
    )
    experiment = await ended(execution.run.id, started)
    started = time.perf_counter()
    execution = await pools.write(execute_tree, caller=LOCAL, tasks=bare_map(cases), llm_key=key)
    return {"experiment": experiment, "map": await ended(execution.run.id, started)}


async def measured(cases: int) -> dict[str, Figures]:
    provider = Judge()
    async with provided(provider) as address:
        os.environ["AIPARTNERUPFLOW_LLM_API_BASE"] = f"openai={address}"
        with ExitStack() as stack:
            await asyncio.to_thread(stack.enter_context, working())
            from accounts.callers import LOCAL
            from apflow_site.db import pools
            from tasks.services.flows import save_flow

            asking = {"id": "ask", "name": "llm_executor", "inputs": {"prompt": "Greet {{run.inputs.who}}."}}
            await pools.write(save_flow, caller=LOCAL, name="greet", tasks=[asking])
            await both(WARM)
            provider.calls = 0
            found = await both(cases)
            await asyncio.to_thread(stack.close)
    return {"seconds": found | {"calls": provider.calls}}


def main(engines: list[str], cases: str) -> None:
    print("| | experiment, s | map, s | calls of models | speed of the experiment |")
    print("|---|---:|---:|---:|---:|")
    for engine in engines:
        found = figures_of(engine, module="benchmarks.evals", arguments=[cases])["seconds"]
        ratio = found["map"] / found["experiment"]
        print(
            f"| {engine} | {found['experiment']:.1f} | {found['map']:.1f} | {found['calls']:,.0f} | {ratio:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    given = sys.argv[1:]
    cases = next((each for each in given if each.isdecimal()), str(CASES))
    if "--measure" in given:
        print(json.dumps(asyncio.run(measured(int(cases)))))
    else:
        main([each for each in given if each in ("sqlite", "postgres")] or ["sqlite", "postgres"], cases)
