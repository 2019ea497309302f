"""Workflows whose code uses agents of frameworks, as users write them. `RAN` has each call of a tool and of a model in this process."""

from dataclasses import dataclass
from typing import Final

from agents import Agent as OpenAIAgent
from agents import ModelBehaviorError, Runner, function_tool
from agents import UserError as OpenAIUserError
from pydantic import BaseModel
from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults, ModelRetry, RunContext, Tool
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart, ToolCallPart, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from aipartnerupflow.workflows import StepFailed, ask, gather, workflow
from aipartnerupflow.workflows.openai_agents import durable, run_config
from aipartnerupflow.workflows.pydantic_ai import Durable, RunModel

RAN: Final[list[str]] = []


# --- Pydantic AI ---


class Trip(BaseModel):
    city: str
    nights: int


@dataclass
class Office:
    """What the tools of an agent depend on; it is no JSON."""

    currency: str


def weather(city: str) -> str:
    """Return the weather of a city."""
    RAN.append(f"weather {city}")
    return f"It is warm in {city}."


async def hotel(context: RunContext[Office], city: str) -> dict[str, object]:
    """Return a hotel in a city."""
    RAN.append(f"hotel {city}")
    if city.islower():
        raise ModelRetry("Begin the city with a capital letter.")
    return {"name": "Bellevue", "price": f"120 {context.deps.currency}"}


trips = Agent(
    RunModel("gpt-4o-mini"),
    name="trips",
    deps_type=Office,
    output_type=Trip,
    instructions="Be brief.",
    tools=[weather, Tool(hotel, metadata={"aipartnerupflow": {"idempotent": True}})],
    capabilities=[Durable()],
)
poet = Agent(RunModel("gpt-4o-mini"), name="poet", capabilities=[Durable()])


@poet.output_validator
def is_short(text: str) -> str:
    if len(text) > 40:
        raise ModelRetry("Write less.")
    return text


@workflow
async def trip(question: str) -> Trip:
    return (await trips.run(question, deps=Office("CHF"))).output


@workflow
async def poems(rivers: list[str]) -> list[str]:
    """Ask for a poem on each river side by side, and go on with the messages of the first."""
    results = await gather(*(poet.run(f"A poem on the {river}.") for river in rivers))
    better = await poet.run("Better.", message_history=results[0].new_messages())
    return [*(result.output for result in results), better.output]


def scripted(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """Add 1, 2 and 3, the last two in one answer, and say the sum."""
    sums = [
        int(str(part.content)) for message in messages for part in message.parts if isinstance(part, ToolReturnPart)
    ]
    RAN.append(f"model {len(messages)}")
    if not sums:
        return ModelResponse(parts=[ToolCallPart("count", {"number": 1}, tool_call_id="a")])
    if len(sums) == 1:
        return ModelResponse(parts=[ToolCallPart("count", {"number": n}, tool_call_id=f"b{n}") for n in (2, 3)])
    return ModelResponse(parts=[TextPart(f"The sum is {sum(sums)}.")])


def count(number: int) -> int:
    """Return the number."""
    RAN.append(f"count {number}")
    return number


counting = Agent(
    FunctionModel(scripted),
    name="counting",
    tools=[Tool(count, metadata={"aipartnerupflow": {"idempotent": True}})],
    capabilities=[Durable()],
)


@workflow
async def counted(count: int) -> dict[str, object]:
    result = await counting.run("Add.")
    return {"whole": result.output, "error": None, "requests": result.usage.requests}


# --- OpenAI Agents SDK ---


@function_tool
def temperature(city: str) -> str:
    """Return the temperature of a city."""
    RAN.append(f"temperature {city}")
    return "21 degrees"


@function_tool(failure_error_function=None)
async def refund(order: int) -> str:
    """Pay back an order."""
    RAN.append(f"refund {order}")
    return f"paid back {order}"


billing = OpenAIAgent(name="billing", model="gpt-4o-mini", instructions="Pay back.", tools=[refund])
desk = OpenAIAgent(name="desk", model="gpt-4o-mini", tools=[temperature], handoffs=[billing])
billing.handoffs.append(desk)
durable_desk = durable(desk, idempotent=["temperature"])


class Reading(BaseModel):
    degrees: int


reader = durable(OpenAIAgent(name="reader", model="gpt-4o-mini", output_type=Reading))


@workflow
async def helped(question: str) -> str:
    result = await Runner.run(durable_desk, question, run_config=run_config())
    return f"{result.last_agent.name}: {result.final_output}"


@workflow
async def read(question: str) -> Reading:
    try:
        result = await Runner.run(reader, question, run_config=run_config())
    except ModelBehaviorError:
        result = await Runner.run(reader, f"{question} As JSON.", run_config=run_config())
    reading: Reading = result.final_output
    return reading


# --- what goes wrong ---


def broken(number: int) -> int:
    """Fail."""
    RAN.append(f"broken {number}")
    raise ValueError("no such number")


breaking = Agent(
    RunModel("gpt-4o-mini"), name="breaking", tools=[broken], capabilities=[Durable(retries=1, timeout=60)]
)


@workflow
async def caught() -> str:
    try:
        return (await breaking.run("Count.")).output
    except StepFailed as failure:
        return str(failure)


@function_tool(failure_error_function=None)
def breaks(number: int) -> str:
    """Fail."""
    RAN.append(f"breaks {number}")
    raise ValueError("no such number")


@function_tool
def fails(number: int) -> str:
    """Fail, and let the model know."""
    RAN.append(f"fails {number}")
    raise ValueError("no such number")


fragile = durable(OpenAIAgent(name="fragile", model="gpt-4o-mini", tools=[breaks, fails, temperature]))


@workflow
async def caught_by_sdk(question: str) -> str:
    try:
        return str((await Runner.run(fragile, question, run_config=run_config())).final_output)
    except (StepFailed, OpenAIUserError) as failure:
        return str(failure)


# --- approvals ---

bank = Agent(
    RunModel("gpt-4o-mini"),
    name="bank",
    output_type=[str, DeferredToolRequests],
    tools=[Tool(count, name="pay", requires_approval=True)],
    capabilities=[Durable()],
)


@workflow
async def paid(question: str) -> str:
    result = await bank.run(question)
    while isinstance(result.output, DeferredToolRequests):
        answers = DeferredToolResults()
        for call in result.output.approvals:
            answer = await ask(f"May {call.tool_name} run with {call.args}?", options=["yes", "no"])
            answers.approvals[call.tool_call_id] = answer == "yes"
        result = await bank.run(message_history=result.all_messages(), deferred_tool_results=answers)
    return result.output


@function_tool(needs_approval=True)
async def transfer(amount: int) -> str:
    """Transfer an amount."""
    RAN.append(f"transfer {amount}")
    return f"transferred {amount}"


teller = durable(OpenAIAgent(name="teller", model="gpt-4o-mini", tools=[transfer]))


@workflow
async def transferred(question: str) -> str:
    result = await Runner.run(teller, question, run_config=run_config())
    while result.interruptions:
        state = result.to_state()
        for each in result.interruptions:
            if await ask(f"May {each.name} run with {each.arguments}?", options=["yes", "no"]) == "yes":
                state.approve(each)
            else:
                state.reject(each)
        result = await Runner.run(teller, state, run_config=run_config())
    return str(result.final_output)
