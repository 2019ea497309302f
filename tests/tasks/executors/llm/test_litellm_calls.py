"""Names of models that would lead a key elsewhere. There is no database here, so whoever looked for a key would fail."""

import pytest

from aipartnerupflow.executors import ExecutorError
from tasks.executors.llm.prompt import Prompt
from tests.lazy_modules import LazyModule

litellm = LazyModule("litellm")
model_names = LazyModule("llmkeys.model_names")
litellm_calls = LazyModule("tasks.executors.llm.litellm_calls")
IS_AN_ADDRESS = "a name has no '://'"


def prompt(model: str) -> Prompt:
    return Prompt(model=model, messages=[{"role": "user", "content": "Hi"}], run_id="run-1", user_id="alice")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("oobabooga/http://127.0.0.1:9/v1", IS_AN_ADDRESS),
        ("OOBABOOGA/https://example.com", IS_AN_ADDRESS),
        ("huggingface/http://169.254.169.254/latest", IS_AN_ADDRESS),
        ("huggingface/https%3A%2F%2Fexample.com", IS_AN_ADDRESS),
        ("http://example.com", IS_AN_ADDRESS),
        ("google/../../upload", IS_AN_ADDRESS),
        ("gemini/..", IS_AN_ADDRESS),
        ("gemini/%2e%2E/files", IS_AN_ADDRESS),
        ("gemini/a\\..\\b", IS_AN_ADDRESS),
        ("openai/gpt-4?x=1", IS_AN_ADDRESS),
        ("openai/gpt-4#x", IS_AN_ADDRESS),
        ("openai/gpt 4", IS_AN_ADDRESS),
        ("openai/gpt-4\r\nX: 1", IS_AN_ADDRESS),
        ("openai/gpt-4\u2028", IS_AN_ADDRESS),
        ("openai/gpt-4\x7f", IS_AN_ADDRESS),
        ("gpt-4\0", IS_AN_ADDRESS),
        ("azure/command-r-08-2024", "LiteLLM would send it to openai, with the key for azure"),
        ("Azure/mistral-large-latest", "LiteLLM would send it to openai, with the key for azure"),
        ("ragflow/x", "is not known"),
    ],
)
async def test_a_name_that_leads_elsewhere_is_refused_before_a_key_is_looked_up(model: str, says: str) -> None:
    with pytest.raises(ExecutorError, match=says) as refused:
        await litellm_calls.access(prompt(model))
    assert refused.value.permanent


def test_no_model_that_litellm_knows_is_taken_for_an_address() -> None:
    for model in litellm.model_cost:
        model_names.refuse_addresses(model)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("model", ["chatgpt/gpt-5", "github_copilot/gpt-4", "azure/gpt-4o", "google/gemini-2.5-pro"])
async def test_other_names_get_as_far_as_the_key_and_no_login_begins(model: str) -> None:
    with pytest.raises(ExecutorError, match="No API key for the provider"):
        await litellm_calls.access(prompt(model))
