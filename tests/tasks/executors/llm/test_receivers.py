"""Which address a key goes to: LiteLLM is called for every provider, and the host that it looks up is written down."""

import os
from collections import defaultdict
from pathlib import Path

import orjson

from tests.fork_server import DATABASE, MODELS, printed_by
from tests.lazy_modules import LazyModule

model_names = LazyModule("llmkeys.model_names")

#: One company under two names.
SAME_OWNER = {"dashscope.aliyuncs.com": {"dashscope", "qwen_ai_platform"}}
SETTINGS = {"DJANGO_SETTINGS_MODULE": "apflow_site.settings", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
#: Of the operator's machines and clouds, which are refused for a user's own key.
OF_THE_OPERATOR = {"localhost", "169.254.169.254"}


def test_no_key_goes_to_the_address_of_another_provider(tmp_path: Path) -> None:
    without_proxies = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    database = {DATABASE: f"sqlite:///{tmp_path}/none.sqlite3", "AIPARTNERUPFLOW_DATA_DIR": str(tmp_path)}
    code = "import django; django.setup(); from tests import llm_receivers; llm_receivers.run()"
    printed = printed_by(code, env={**without_proxies, **SETTINGS, **database, MODELS: "yes"})
    by_host = defaultdict(set)
    for provider, hosts in orjson.loads(printed.splitlines()[-1]).items():
        for host in hosts:
            by_host[host].add(provider)
    shared = {host: names for host, names in by_host.items() if len(names) > 1 and host not in OF_THE_OPERATOR}
    assert shared == SAME_OWNER
    assert by_host["api.openai.com"] == {"openai"}
    assert by_host["api.ai21.com"] == {"ai21"}
    assert by_host["huggingface.co"] == {"huggingface"}  # where anyone can publish a template for a prompt
    assert not model_names.WITHOUT_ADDRESS & {name for names in by_host.values() for name in names}
    assert len(by_host) > 60  # LiteLLM was really called
