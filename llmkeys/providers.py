"""The providers of language models, by LiteLLM's names, and the header `X-LLM-API-KEY`: a key sent with a request, for one run.

Does not import LiteLLM, which is too large for web processes.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Final

from django.conf import settings

from llmkeys.secret import Secret

#: Alternative names, including LiteLLM's names for other interfaces of the same provider.
ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "google": "gemini",
        "ai21_chat": "ai21",
        "anthropic_text": "anthropic",
        "azure_text": "azure",
        "cohere_chat": "cohere",
        "ollama_chat": "ollama",
        "sagemaker_chat": "sagemaker",
        "text-completion-codestral": "codestral",
        "text-completion-inception": "inception",
        "text-completion-openai": "openai",
        "vertex_ai_beta": "vertex_ai",
        "watsonx_text": "watsonx",
    }
)

#: The providers that LiteLLM knows; a test compares.
PROVIDERS: Final = frozenset(
    """
    a2a a2a_agent abliteration ai21 aiand aiml aiohttp_openai amazon_nova anthropic apertis assemblyai auto_router
    aws_polly aws_textract azure azure_ai azure_speech baseten bedrock bedrock_mantle bespoke bigmodel
    black_forest_labs bytez cerebras charity_engine chatgpt chutes clarifai clf_ai_gateway cloudflare codestral
    cognition cohere cometapi compactifai coralbricks cortecs cursor custom custom_openai darkbloom dashscope
    databricks databricks_agent datarobot deepgram deepinfra deepseek docker_model_runner dotprompt edenai
    elevenlabs empiriolabs empower eu_jev fal_ai featherless_ai fireworks_ai friendliai galadriel gdc gemini
    gigachat github github_copilot gradient_ai groq helicone heroku hosted_vllm hostinger_router huggingface
    humanloop hyperbolic inception inferenceapis infinity jina_ai kyma lambda_ai langflow langfuse langgraph laya
    lemonade libertai litellm_agent litellm_proxy llamafile lm_studio manus maritalk meta meta_llama
    microsoft_365_copilot milvus minimax mistral modelscope mongodb moonshot morph nace nadir nano-gpt nebius
    neosantara nlp_cloud novita nscale nvidia_nim nvidia_riva oci ollama oobabooga openai openai_like opencode_go
    openinfer openrouter opensearch ovhcloud parallel_ai parasail perplexity petals pg_vector pinstripes poe
    predibase prism publicai qwen_ai_platform qwencloud ragflow recraft reducto refuseless reka replicate runwayml
    s3_vectors sagemaker sagemaker_nova sail sambanova sap scaledown scaleway scx-ai snowflake soniox stability
    strands_decider streamlake synthetic tencent tensormesh together_ai topaz transcribe triton typesafe v0 valkey
    vercel_ai_gateway vertex_ai vllm volcengine voyage wally wandb watsonx xai xiaomi_mimo xinference zai zerogpu
    """.split()
)

#: A model on one's own machine may need no key.
KEYLESS: Final = frozenset(
    {
        "demo",
        "docker_model_runner",
        "hosted_vllm",
        "lemonade",
        "llamafile",
        "lm_studio",
        "ollama",
        "oobabooga",
        "vllm",
        "xinference",
    }
)

#: Variables with other names than <PROVIDER>_API_KEY, or with several. The first that is set is
#: used.
VARIABLES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "cohere": ("COHERE_API_KEY", "CO_API_KEY"),
        "fireworks_ai": ("FIREWORKS_API_KEY", "FIREWORKS_AI_API_KEY"),
        "gemini": ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
        "huggingface": ("HUGGINGFACE_API_KEY", "HF_TOKEN"),
        "perplexity": ("PERPLEXITYAI_API_KEY", "PERPLEXITY_API_KEY"),
        "together_ai": ("TOGETHERAI_API_KEY", "TOGETHER_API_KEY", "TOGETHER_AI_API_KEY"),
    }
)
#: How the keys of these providers begin. A longer beginning wins.
BEGINNINGS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "AIza": "gemini",
        "gsk_": "groq",
        "hf_": "huggingface",
        "pplx-": "perplexity",
        "sk-": "openai",
        "sk-ant-": "anthropic",
        "sk-or-": "openrouter",
        "xai-": "xai",
    }
)
HEADER: Final = "X-LLM-API-KEY"
MAX_CHARACTERS: Final = 4096
FORM: Final = "send '<key>' or '<provider>:<key>'"


class UnknownProvider(Exception):
    """There is no provider of language models with this name. `message` completes "NAME is …"."""

    def __init__(self, name: str) -> None:
        close = get_close_matches(name.lower()[:100], [*known_providers(), *ALIASES], n=1)
        hint = (
            f"Did you mean '{close[0]}'?"
            if close
            else "Known are openai, anthropic, gemini, mistral, groq and the other providers of LiteLLM."
        )
        self.message = f"not a provider that LiteLLM knows. {hint}"
        super().__init__(self.message)


def known_providers() -> frozenset[str]:
    """Return LiteLLM's providers and those for which the operator has set an address."""
    return PROVIDERS | operator_addresses().keys()


def provider_named(name: str) -> str:
    """Return the name under which keys are stored: `google` and `gemini` are one.

    Raises UnknownProvider.
    """
    normal = normal_name(name)
    if normal not in known_providers():
        raise UnknownProvider(name)
    return normal


def normal_name(name: str) -> str:
    """Normalize the name of a known provider."""
    lower = name.strip().lower()
    return ALIASES.get(lower, lower)


def operator_addresses() -> Mapping[str, str]:
    """Map each provider to the address that replaces its own (`llm.api_base`)."""
    return {normal_name(name): address for name, address in (settings.APFLOW_LLM.api_base or {}).items()}


def environment_variables(provider: str) -> tuple[str, ...]:
    """Return the environment variables for the server's own key for a provider."""
    return VARIABLES.get(provider, (f"{provider.upper().replace('-', '_')}_API_KEY",))


def environment_key(provider: str) -> Secret | None:
    """Return the server's own key, unless `llm.environment_keys` is off."""
    if not settings.APFLOW_LLM.environment_keys:
        return None
    found = (os.environ.get(name, "").strip() for name in environment_variables(provider))
    return next((Secret(text) for text in found if text), None)


class UnknownForm(Exception):
    """The form of a key does not show its provider. `message` says what to send, without the key."""

    def __init__(self) -> None:
        self.message = (
            "required: the form of this key does not show whose it is. Send the provider, such as openai or mistral"
        )
        super().__init__(self.message)


def provider_of_key(key: Secret) -> str:
    """Return the provider whose keys begin like this one. Raises UnknownForm."""
    fitting = [beginning for beginning in BEGINNINGS if key.reveal().startswith(beginning)]
    if not fitting:
        raise UnknownForm
    return BEGINNINGS[max(fitting, key=len)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SentKey:
    """The parsed header. Without a `provider` the key is for the provider of the run's models."""

    provider: str | None
    key: Secret


class MalformedKey(Exception):
    """The header, or a key to store, is invalid. `message` says why, without the key."""

    def __init__(self, message: str) -> None:
        self.message = message
        super().__init__(message)


def parse_header(value: Secret) -> SentKey:
    """Parse the header. Raises MalformedKey."""
    provider, colon, rest = value.reveal().strip().partition(":")
    if not colon:
        return SentKey(provider=None, key=checked_key(Secret(provider)))
    try:
        return SentKey(provider=provider_named(provider), key=checked_key(Secret(rest.strip())))
    except UnknownProvider as unknown:
        # The text is not repeated: it may be the beginning of a key.
        raise MalformedKey(f"the text before the colon is {unknown.message} Or {FORM}") from None


def checked_key(key: Secret) -> Secret:
    """Return the key if its form is valid. Raises MalformedKey."""
    text = key.reveal()
    if not text:
        raise MalformedKey(f"is empty: {FORM}")
    if len(text) > MAX_CHARACTERS:
        raise MalformedKey(f"has more than {MAX_CHARACTERS:,} characters: {FORM}")
    if not re.fullmatch("[!-~]+", text):
        raise MalformedKey(f"has a space or another character that keys cannot have: {FORM}")
    return key
