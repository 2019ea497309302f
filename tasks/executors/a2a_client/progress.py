"""The state of an agent's task, as reported by its responses. Pure."""

from collections.abc import Iterator
from typing import Any, Final

from tasks.rules.a2a_versions import INTERRUPTED, TERMINAL
from tasks.rules.strict_json import Json

SHOWN: Final = 1_000


class Progress:
    """The task or message so far. `take` processes each response, in the shape of 1.0."""

    def __init__(self) -> None:
        self.task: Json | None = None
        self.message: Json | None = None
        self._artifacts: dict[str, Json] = {}

    @property
    def task_id(self) -> str | None:
        return self.task["id"] if self.task else None

    @property
    def state(self) -> str:
        return str(self.task["status"]["state"]) if self.task else ""

    @property
    def is_over(self) -> bool:
        return self.message is not None or self.state in TERMINAL

    @property
    def is_interrupted(self) -> bool:
        return self.state in INTERRUPTED

    @property
    def is_settled(self) -> bool:
        """Whether nothing happens without another message, if ever."""
        return self.is_over or self.is_interrupted

    def take(self, response: Json) -> None:
        if task := response.get("task"):
            self.task = {name: value for name, value in task.items() if name not in ("artifacts", "history")}
            self._artifacts |= {artifact["artifactId"]: artifact for artifact in task.get("artifacts") or []}
        if update := response.get("statusUpdate"):
            self._about(update)["status"] = update["status"]
        if update := response.get("artifactUpdate"):
            self._about(update)
            self._add(update["artifact"], is_more=bool(update.get("append")))
        self.message = response.get("message", self.message)

    def _about(self, update: Json) -> Json:
        """Return the task of the update; some agents never send the task itself."""
        if self.task is None:
            known = {"id": update["taskId"], "contextId": update.get("contextId")}
            self.task = known | {"status": {"state": "TASK_STATE_WORKING"}}
        return self.task

    def _add(self, artifact: Json, *, is_more: bool) -> None:
        """Add an artifact: replace the one with the same id, or append to its parts."""
        known = self._artifacts.get(artifact["artifactId"]) if is_more else None
        if known is not None:
            artifact = known | artifact | {"parts": [*known["parts"], *artifact["parts"]]}
        self._artifacts[artifact["artifactId"]] = artifact

    @property
    def question(self) -> Json:
        """The message of the status: a question, or the reason for a failure."""
        message: Json = (self.task["status"].get("message") if self.task else None) or {}
        return message

    @property
    def said(self) -> str:
        """The text of that message; empty if there is none."""
        return text_of(self.question.get("parts", []))

    def result(self) -> Json:
        """Return `{task, artifacts, text}`, and `message` if the agent created no task."""
        artifacts = list(self._artifacts.values())
        texts = [text for artifact in artifacts if (text := text_of(artifact["parts"]))]
        shown: Json = {"task": self.task, "artifacts": artifacts, "text": texts[-1] if texts else self.said}
        if self.message is not None:
            shown |= {"message": self.message, "text": text_of(self.message.get("parts", []))}
        return shown


def text_of(parts: list[Json]) -> str:
    return "".join(_texts(parts))


def _texts(parts: list[Json]) -> Iterator[str]:
    for part in parts:
        if part.get("text"):
            yield part["text"]


def progress_of(response: Json) -> tuple[float | None, str]:
    """Return the progress, 0 to 1, if the agent reports it, and its message, which may be empty."""
    if artifact_update := response.get("artifactUpdate"):
        artifact = artifact_update["artifact"]
        name = artifact.get("name") or artifact["artifactId"]
        return None, "" if artifact_update.get("append") else f"artifact: {name}"[:SHOWN]
    update = response.get("statusUpdate") or {}
    message = (update.get("status") or {}).get("message") or {}
    return _fraction((update.get("metadata") or {}).get("progress")), text_of(message.get("parts", []))[:SHOWN]


def _fraction(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None
