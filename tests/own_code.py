"""What the operator of the server with models has: crews, graphs, tools, and the settings that name them."""

import sys
from pathlib import Path
from typing import Final

from tests.documents import text
from tests.servers import ROOT

CREWS: Final = {
    "report": "tests.own_crews.report.crew:ReportCrew",
    "poem": "tests.own_crews.flows:PoemFlow",
    "counting": "tests.own_crews.more:counting",
    "made": "tests.own_crews.more:made",
    "as_json": "tests.own_crews.more:as_json",
    "with_memory": "tests.own_crews.more:with_memory",
    "with_address": "tests.own_crews.more:with_address",
    "failing": "tests.own_crews.more:failing",
    "number": "tests.own_crews.more:number",
    "kept": "tests.own_crews.flows:KeptFlow",
    "kept_step": "tests.own_crews.flows:KeptStepFlow",
    "yaml": "tests.own_crews.report",
    "no_yaml": "tests.own_crews",
    "lost": "tests.own_crews.nowhere:Crew",
}
GRAPHS: Final = (
    *(
        "builder",
        "compiled",
        "waits",
        "waits_patiently",
        "factory",
        "async_factory",
        "asking",
        "parallel",
        "outer",
        "stops",
        "form",
    ),
    *("failing", "endless", "fan", "too_large", "no_json", "greeting", "functional", "no_graph", "lost", "team"),
)
MODEL_GRAPHS: Final = (
    *("agent", "plain_node", "async_node", "streaming", "blocking", "structured_output", "own_key", "in_context"),
    "careful",
)
HAS_CREWAI: Final = sys.version_info < (3, 14)
"""Whether CrewAI has a release for this Python. Tests that need it have the marker `crews`."""
TOOLS: Final = "echo_executor,run_tree_executor,llm_executor,none_executor"


def own_code(folder: Path) -> dict[str, str]:
    """The environment of the server. Its code writes files in the folder, and waits for files there."""
    from tests import agent_tools, graphs_for_tests  # noqa: PLC0415  LangGraph takes seconds to import

    (folder / "shop.py").write_text(text("docs/how-to/agents.md", "Offer functions as tools", "python"))
    graphs = [(name, graphs_for_tests.__name__) for name in GRAPHS] + [
        (name, "tests.model_graphs") for name in MODEL_GRAPHS
    ]
    crews = {"AIPARTNERUPFLOW_EXECUTORS_CREWAI_CREWS": ",".join(f"{name}={path}" for name, path in CREWS.items())}
    return {
        **(crews if HAS_CREWAI else {}),
        "PYTHONPATH": f"{folder}:{ROOT}",
        "AIPARTNERUPFLOW_EXECUTORS_MODULES": "tests.agent_tools,shop,tests.patient,tests.research,tests.agent_workflows",
        "AIPARTNERUPFLOW_EXECUTORS_LLM_TOOLS": TOOLS,
        "AIPARTNERUPFLOW_EXECUTORS_LANGGRAPH_GRAPHS": ",".join(f"{name}={module}:{name}" for name, module in graphs),
        "AIPARTNERUPFLOW_EXECUTORS_LANGGRAPH_STATE_BYTES": "65536",
        graphs_for_tests.NODES: str(folder / "nodes"),
        graphs_for_tests.GATE: str(folder / "gate"),
        agent_tools.CALLS: str(folder / "calls"),
        agent_tools.GATE: str(folder / "tools-gate"),
    }
