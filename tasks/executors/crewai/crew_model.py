"""The model that CrewAI's agents get, and how code that creates a model of CrewAI's gets it.

Imported only in worker processes, by `tasks.executors.llm.loading`.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import crewai
import litellm
from crewai.llms.base_llm import BaseLLM
from crewai.utilities import llm_utils
from pydantic import BaseModel, Field, PrivateAttr, ValidationError

from aipartnerupflow.executors import ExecutorError, Json
from tasks.executors.llm.demo import is_demo
from tasks.executors.llm.prompt import PARAMETERS, Completion

if TYPE_CHECKING:
    from tasks.executors.crewai.running import Crew

USABLE_WINDOW: Final = 0.85
UNKNOWN_WINDOW_TOKENS: Final = 128_000
CHARACTERS_EACH_TOKEN: Final = 4
MESSAGE_FIELDS: Final = ("role", "content", "name", "tool_calls", "tool_call_id")
ADDRESSES: Final = ("base_url", "api_base", "endpoint")
LEFT_OUT: Final = frozenset({"api_key", "callbacks", "is_litellm", "prefer_upload", "provider", "stream", "llm_type"})
"""Fields of CrewAI's models that ours leave out: the key is that of the run, and answers are streamed in any case."""
DEFAULT: Final = "default"
"""The name of a model whose code names none."""
NO_TOOLS: Final = frozenset({"tools", "tool_choice"})
CREW: ContextVar["Crew | None"] = ContextVar("the crew that runs here", default=None)


class CrewModel(crewai.BaseLLM):
    """The model of an agent. Calls go through the crew's own event loop. It has no key.

    `model` is what the code wants; DEFAULT is the model of the task. `given` are the parameters of each call.

    A module of the operator's may create it once for many runs: unless `of` names the crew, it is the one that runs where it is called.
    """

    given: Json = Field(default_factory=dict)
    _crew: Any = PrivateAttr(default=None)
    _names: Mapping[str, str] = PrivateAttr(default_factory=dict)

    def of(self, crew: "Crew", names: Mapping[str, str] = MappingProxyType({})) -> "CrewModel":
        """Return this model for the agents of a crew. `names` are those of agents in the record of calls, by their roles."""
        bound = CrewModel(model=self.model, given=self.given, stop=list(self.stop))
        bound._crew, bound._names = crew, names
        return bound

    def call(
        self,
        messages: str | list[Any],
        tools: list[Any] | None = None,
        callbacks: list[Any] | None = None,
        available_functions: Mapping[str, Any] | None = None,
        from_task: Any = None,
        from_agent: Any = None,
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        """Return the text of the answer, an object of `response_model`, or the tool calls, which CrewAI carries out."""
        asked = self._asked(messages, tools, from_task, from_agent, response_model)
        return self._heard(self._running_crew().ask(**asked), response_model)

    async def acall(
        self,
        messages: str | list[Any],
        tools: list[Any] | None = None,
        callbacks: list[Any] | None = None,
        available_functions: Mapping[str, Any] | None = None,
        from_task: Any = None,
        from_agent: Any = None,
        response_model: type[BaseModel] | None = None,
    ) -> Any:
        """Do what `call` does, without blocking the loop of a flow."""
        asked = self._asked(messages, tools, from_task, from_agent, response_model)
        crew = self._running_crew()
        return self._heard(await asyncio.to_thread(crew.ask, **asked), response_model)

    @property
    def named(self) -> str:
        """The name of the model, `provider/name`. Raises ExecutorError."""
        return self._running_crew().model(None if self.model == DEFAULT else self.model)

    def _running_crew(self) -> "Crew":
        crew: Crew | None = self._crew or CREW.get()
        if crew is None:
            raise ExecutorError(
                f"The model {self.model} was called outside the run of its crew: on a thread of your own, or later. Start such "
                "threads with contextvars.copy_context().run.",
                permanent=True,
            )
        return crew

    def _asked(
        self, messages: str | list[Any], tools: list[Any] | None, task: Any, agent: Any, answer: type[BaseModel] | None
    ) -> Json:
        conversation = [{"role": "user", "content": messages}] if isinstance(messages, str) else messages
        role = getattr(agent, "role", None) or next(iter(self._names), "")
        options = dict(self.given)
        if tools and (definitions := self._running_crew().definitions):  # tools of servers as these give them
            tools = [definitions.get(tool["function"]["name"], tool) for tool in tools]
        if tools:
            options["tools"] = tools
        takes_schemas = not is_demo(self.named) and litellm.supports_response_schema(self.named)
        if answer is not None and not tools and takes_schemas:
            schema = {"name": answer.__name__, "schema": answer.model_json_schema()}
            options["response_format"] = {"type": "json_schema", "json_schema": schema}
        return {
            "model": self.named,
            "messages": [{name: each[name] for name in MESSAGE_FIELDS if name in each} for each in conversation],
            "options": options,
            "agent": self._names.get(role, role),
            "crew_task": None if task is None else task.name or task.description,
        }

    def _heard(self, answer: Completion, response_model: type[BaseModel] | None) -> Any:
        if answer.tool_calls:
            return answer.tool_calls
        text = self._apply_stop_words(answer.content or "")
        if response_model is None:
            return text
        try:
            return response_model.model_validate_json(text)
        except ValidationError:
            return text  # CrewAI converts it, with another call

    def supports_function_calling(self) -> bool:
        """Return whether the model can call tools. Otherwise CrewAI describes the tools in the prompt."""
        return not is_demo(self.named) and litellm.supports_function_calling(self.named)

    def get_context_window_size(self) -> int:
        """Return the number of tokens after which CrewAI summarizes the conversation."""
        model = self.named
        known = litellm.model_cost.get(model) or litellm.model_cost.get(model.partition("/")[2]) or {}
        tokens = known.get("max_input_tokens")
        return int(((tokens if isinstance(tokens, int) else None) or UNKNOWN_WINDOW_TOKENS) * USABLE_WINDOW)

    def get_input_tokens_count(self, messages: Any, tools: Any = None, response_model: Any = None) -> int:
        """Return a cheap estimate, used only to decide when to summarize."""
        texts = messages if isinstance(messages, str) else "".join(str(each.get("content")) for each in messages)
        return len(texts) // CHARACTERS_EACH_TOKEN + 1


def model_of(crew: "Crew", llm: Any) -> BaseLLM | None:
    """Return the model for what code gave as one: a name, a model of CrewAI's, or None.

    A subclass of BaseLLM that is not CrewAI's is the operator's own, and stays. Raises ExecutorError for options that have no effect here.
    """
    if llm is None:
        return None
    if isinstance(llm, CrewModel):
        return llm.of(crew)
    if isinstance(llm, str):
        return CrewModel(model=llm).of(crew)
    if not type(llm).__module__.startswith("crewai."):
        return llm  # type: ignore[no-any-return]
    given = {name: getattr(llm, name) for name in type(llm).model_fields if name in PARAMETERS}
    model = llm.model if "/" in llm.model else f"{llm.provider}/{llm.model}"
    return CrewModel(model=model, given=_options(given)).of(crew)


@contextmanager
def models_of(crew: "Crew") -> Iterator[None]:
    """Let the models that code creates in this context, by CrewAI's `LLM` or as its default, be those of the crew."""
    token = CREW.set(crew)
    try:
        yield
    finally:
        CREW.reset(token)


def _options(given: Mapping[str, Any]) -> Json:
    return {
        name: value
        for name, value in given.items()
        if name in PARAMETERS and name not in NO_TOOLS and value not in (None, [])
    }


def _created(model: str, given: Mapping[str, Any]) -> CrewModel:
    """Return what `LLM(model, **given)` is within a crew. Raises ExecutorError."""
    given = {name: value for name, value in given.items() if value is not None}
    if address := next((name for name in ADDRESSES if name in given), None):
        raise ExecutorError(
            f"LLM({model!r}, {address}=…) is refused: calls use the key and the addresses of the server. Set llm.api_base for the "
            "provider, and leave it out.",
            permanent=True,
        )
    unknown = sorted(given.keys() - PARAMETERS.keys() - LEFT_OUT)
    if unknown:
        raise ExecutorError(
            f"LLM({model!r}, {unknown[0]}=…) is refused: the parameters are {', '.join(PARAMETERS.keys() - NO_TOOLS)}.",
            permanent=True,
        )
    name = f"{given['provider']}/{model}" if "provider" in given and "/" not in model else model
    return CrewModel(model=name, given=_options(given), stop=given.get("stop", []))


_new = crewai.LLM.__new__
_default = llm_utils._llm_via_environment_or_fallback


def _new_in_crew(cls: type[crewai.LLM], model: str, is_litellm: bool = False, **given: Any) -> Any:
    return _new(cls, model, is_litellm, **given) if CREW.get() is None else _created(model, given)


def _default_in_crew() -> Any:
    return _default() if CREW.get() is None else CrewModel(model=DEFAULT)


# CrewAI has no other place for this: `LLM(…)` makes a client with a key from the environment.
crewai.LLM.__new__ = _new_in_crew  # type: ignore[method-assign]
llm_utils._llm_via_environment_or_fallback = _default_in_crew
