# mypy: ignore-errors
"""CrewAI delegates to the agent as its own agents do; started in an environment of its own. Prints what it saw as JSON.

Arguments: where CrewAI is installed, without the SDK that its delegation needs, and the agent's address.
"""

import json
import os
import sys
from typing import Any

packages, url = sys.argv[1:]
sys.path.append(packages)
os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false", "OTEL_SDK_DISABLED": "true"}

from a2a.types import TaskState  # noqa: E402
from crewai.a2a.utils.delegation import execute_a2a_delegation  # noqa: E402


def delegated(task: str, **fields: Any) -> dict[str, Any]:
    return execute_a2a_delegation(
        endpoint=f"{url}/.well-known/agent-card.json", auth=None, timeout=120, task_description=task, **fields
    )


said, sys.stdout = sys.stdout, sys.stderr  # it draws, and in threads of its own even when it is done
done = delegated("Say hello.", skill_id="echo_executor")
asked = delegated("Do something.")
task_id = asked["history"][-1].task_id
answered = delegated("Say hello.", task_id=task_id, skill_id="echo_executor")

json.dump(
    {
        "done": done["status"].value,
        "agent": done["a2a_agent_name"],
        "asked": asked["status"].value,
        "question": bool(asked["history"][-1].parts[0].root.text),
        "answered": answered["status"] is TaskState.completed,
    },
    said,
)
