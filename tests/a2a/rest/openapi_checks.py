"""What schemathesis checks of the API besides its own: loaded by it as its hooks."""

import re
from typing import Final

import schemathesis
from schemathesis import Case, CheckContext, Response
from schemathesis.specs.openapi.checks import positive_data_acceptance

#: Why a request may be refused with 400 although it fits its schema: what no JSON Schema can say.
BEYOND_SCHEMAS: Final = (
    r"does not fit into 64 bits",
    r"^Invalid params: cursor: is not a cursor of this server",
    r"^Invalid params: Idempotency-Key: was used for another request",
    r"^Invalid params: id: was used for another event",
    r"^Invalid params: from_tasks: '.*' is not a task of this tree",
    r"^Invalid params: tasks\[\d+\]\.id: '.*' is in use",
    r"^Invalid params: custom_task_ids",
    r"^Invalid params: (cron|timezone|at|starts_at|ends_at|since|until|before|flow_version): ",  # times of schedules
    r"^Invalid params: params: no changes",  # each is null
    r"^Invalid params: reset_fields: '.*' is not one of",
    r"^Invalid params: tasks\[\d+\]\.inputs: do not fit the schema of",  # of the executor that is named
    r"^Invalid params: tasks\[\d+\]\.params\.(pool|resources)",  # what the executor that is named may have
    r"^Invalid params: tasks\[\d+\]\.params: params\.",  # what the executor that is named wants of them
    r"^Invalid params: value: (has more than|has fewer than)",  # bytes, and what counts as white space
    r"^Invalid params: (provider|api_key): ",  # the providers that LiteLLM knows, and what a header cannot have
    r"^Invalid params: (bytes|minutes): at most ",  # limits of files
    r"^Invalid params: evaluators\[",  # expressions, JSON Schemas, and names that differ
    r"^Invalid params: name: (must be|has a)",  # what cannot be the name of a file
    r"^Invalid params: (limit|limit.match.provider|name): ",  # what a limit may be, and its name, and that it limits anything
    r"^Invalid params: (secrets|hmac|filter|inputs|payload|event|answers)\b",  # of a hook: its secrets, conditions and places
    r"schemas\.input_schema: is not a valid JSON Schema",
    r"^Invalid params: (webhook_config\.)?url: (The (url|host) .*is refused|must have at most)",
    r"^Invalid params: (webhook_config\.)?headers\.[^ ]+: (is set by the server|is given twice)",
    r"^Invalid params: email: (must be|cannot be used)",  # what an address is, and which ones the operator allows
    r"^Invalid params: (tasks\[\d+\]\.)?(schedule_[a-z_]+|max_runs): ",  # the schedule of a root: its times, or a half
)


@schemathesis.check
def what_fits_its_schema_is_accepted(context: CheckContext, response: Response, case: Case) -> bool | None:
    return None if _is_beyond_schemas(response) else positive_data_acceptance(context, response, case)


def _is_beyond_schemas(response: Response) -> bool:
    """422 says so itself: tasks that are well formed and do not fit each other."""
    if response.status_code != 400:
        return response.status_code == 422
    message = response.json()["error"]["message"]
    return any(re.search(reason, message, re.DOTALL) for reason in BEYOND_SCHEMAS)
