"""Models by LiteLLM, without a network."""

import os

os.environ.setdefault(
    "LITELLM_LOCAL_MODEL_COST_MAP", "True"
)  # as `llmkeys.model_names` does: tests import LiteLLM by itself
