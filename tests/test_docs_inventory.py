"""Every block of the documentation that can run is run by a test; the others say why not."""

import ast
from functools import cache
from typing import Final

import pytest

from tasks.executors import EXECUTORS
from tests.documents import BLOCKS, PAGES, named
from tests.servers import ROOT

TEN_MINUTES: Final = "tests/test_docs_own_code.py::test_a_crew_runs_in_ten_minutes"
BLOCKS_TEST: Final = "tests/test_docs_blocks.py"
SITE: Final = "tests/docs_site.py::running_docs_site"
"""The start of the server itself: its configuration, its modules and the command are the pages'."""
SERVERS: Final = "tests/test_docs_servers.py"
README: Final = "tests/test_readme.py"
CALL: Final = "tests/test_call_page.py"
REGISTRY: Final = "tests/tasks/executors/test_registry.py::test_the_page_on_writing_an_executor_is_true"
APPROVALS: Final = "tests/tasks/services/waits/test_approval_page.py::test_what_the_page_shows_works"
OWN_CLIENTS: Final = "tests/tasks/executors/test_own_clients.py::test_an_sdk_has_a_guarded_client_and_its_configuration"
KILLED: Final = "tests/acceptance/test_killed_examples.py::test_the_examples_survive_a_kill_in_the_middle_of_each"
FRAMEWORKS: Final = "tests/aipartnerupflow/workflows/test_agent_frameworks.py::test_the_page_is_true"
AGENTS: Final = "tests/tasks/executors/llm/test_agent.py"
MCP_AGENTS: Final = "tests/tasks/executors/mcp/test_mcp_agents.py"
MCP_CREWS: Final = "tests/tasks/executors/mcp/test_mcp_crews.py"
DOCUMENTS: Final = (
    "tests/acceptance/test_documents_page.py::test_documents_are_summarised_through_kills_and_the_report_is_sent_once"
)
MCP_SERVERS: Final = "tests/tasks/executors/mcp/test_mcp_trees.py::test_what_the_page_shows_works"
WAITS: Final = "tests/tasks/services/waits/test_wait_page.py::test_what_the_page_shows_works"
CACHE: Final = "tests/tasks/worker/test_cache_page.py::test_what_the_page_shows_works"
FILES_PAGE: Final = "tests/a2a/test_files_page.py"
LARGE_RESULTS: Final = "tests/a2a/test_large_results.py::test_tasks_get_returns_the_value_and_other_replies_the_file"
HOOKS_PAGE: Final = "tests/a2a/test_inbound_hooks_page.py"
LABELS: Final = "tests/a2a/test_labels_page.py::test_what_the_page_shows_works"
IMPROVE: Final = (
    "tests/acceptance/test_improve_page.py::test_a_better_prompt_is_found_on_real_questions_and_put_into_use"
)
EVALUATE: Final = "tests/a2a/test_evaluate_page.py::test_what_the_page_shows_works"
FILES: Final = f"{FILES_PAGE}::test_what_the_page_shows_works"
FILES_IN_FORMS: Final = f"{FILES_PAGE}::test_a_flow_takes_a_local_file_and_its_files_are_stored"
LIMITS: Final = "tests/tasks/worker/test_limits_page.py::test_what_the_page_shows_works"
SCHEDULES: Final = "tests/tasks/schedules/test_schedule_page.py::test_what_the_page_shows_works"
SCHEDULED: Final = (
    "tests/tasks/schedules/test_schedule_page.py::"
    "test_a_task_with_its_own_schedule_is_stored_and_triggered_from_elsewhere"
)
NOTIFICATIONS: Final = "tests/a2a/methods/test_notifications.py::test_what_the_page_shows_works"
WEBHOOKS: Final = "tests/tasks/worker/test_webhook_page.py::test_the_receiver_of_the_page_believes_the_server"
CLIENT: Final = "tests/aipartnerupflow/client/test_client_page.py::test_the_programs_run_one_after_the_other"
SERVICES: Final = "tests/acceptance/test_services_page.py"
CONTAINERS: Final = "tests/acceptance/test_containers.py::test_the_page_is_true"
CODING_AGENTS: Final = "tests/aipartnerupflow/cli/test_coding_agents.py::test_what_the_page_shows_works"
DJANGO: Final = "tests/aipartnerupflow/django/test_project.py::test_what_the_page_shows_works"
APP: Final = "tests/clients/test_mcp_app.py::test_the_page_is_true"
POOLS: Final = "tests/acceptance/test_pools.py::test_the_page_is_true"
QUICK_START: Final = f"{README}::test_every_request_of_the_quick_start_succeeds"
TUTORIAL: Final = f"{README}::test_the_quick_start_goes_from_a_tree_to_a_flow_that_is_repaired"
ELSEWHERE: Final = f"{BLOCKS_TEST}::test_what_one_knows_from_elsewhere_runs_as_its_page_says"
WORKFLOWS_ELSEWHERE: Final = f"{BLOCKS_TEST}::test_workflows_that_one_knows_from_elsewhere_run_as_their_pages_say"
COMMANDS: Final = "tests/tasks/executors/command/test_command.py::test_the_page_on_running_commands_is_true"
TASKS: Final = f"{BLOCKS_TEST}::test_a_task_of_a_page_has_the_result_that_the_page_promises"
FLOW_OF_TEXTS: Final = (
    "tests/a2a/protocol/test_conversation.py::test_a_text_runs_the_flow_of_the_caller_with_the_conversation"
)
TYPESCRIPT: Final = "tests/clients/test_typescript.py"
NOT_RUN: Final = "not run: "
DOCKER: Final = f"{NOT_RUN}needs a container engine; tests/test_deploy.py looks at what is in these files"

#: Page → heading, language, and which test runs the block, or why none does; in the order of the page.
INVENTORY: Final[dict[str, list[tuple[str, str, str]]]] = {
    "README.md": [
        ("The first five minutes", "sh", f"{README}::test_the_first_command_starts_the_server"),
        ("The first five minutes", "sh", f"{README}::test_the_first_tree_asks_and_posts"),
        ("The first five minutes", "json", f"{README}::test_the_first_tree_asks_and_posts"),
        ("The first five minutes", "sh", f"{README}::test_a_folder_of_code_is_served"),
        ("The same over HTTP", "sh", f"{README}::test_the_first_task_is_answered_and_followed"),
        ("How it works", "", f"{NOT_RUN}a drawing"),
    ],
    "docs/contributing/release.md": [("Check", "sh", f"{NOT_RUN}takes minutes; runs tests/test_release.py")],
    "docs/contributing/tests.md": [("Faults", "sh", f"{NOT_RUN}takes minutes")],
    "clients/python/README.md": [
        (
            "aipartnerupflow-client",
            "python",
            "tests/clients/test_python.py::test_it_runs_a_tree_without_the_server_being_installed",
        ),
    ],
    "clients/typescript/README.md": [
        (
            "aipartnerupflow for TypeScript",
            "sh",
            f"{TYPESCRIPT}::test_the_built_package_runs_the_programs_of_the_readme",
        ),
        ("Run a tree", "typescript", f"{TYPESCRIPT}::test_the_built_package_runs_the_programs_of_the_readme"),
        ("Call every method", "typescript", f"{TYPESCRIPT}::test_the_built_package_runs_the_programs_of_the_readme"),
        ("Send and get files", "typescript", f"{TYPESCRIPT}::test_the_built_package_runs_the_programs_of_the_readme"),
    ],
    "docs/how-to/kubernetes.md": [
        ("Try it", "sh", f"{NOT_RUN}needs a cluster; tests/test_kubernetes.py looks at what is in these files"),
        ("With Helm", "sh", f"{NOT_RUN}needs a cluster; tests/test_chart.py renders the chart with Helm"),
        ("Autoscaling", "yaml", f"{NOT_RUN}is the file of another program"),
    ],
    "docs/coming-from/celery.md": [("An example", "python", ELSEWHERE), ("An example", "json", ELSEWHERE)],
    "docs/coming-from/crewai.md": [("An example", "json", ELSEWHERE)],
    "docs/coming-from/langgraph.md": [("An example", "json", ELSEWHERE)],
    "docs/coming-from/prefect.md": [("An example", "json", ELSEWHERE), ("An example", "sh", ELSEWHERE)],
    "docs/coming-from/dbos.md": [("An example", "python", WORKFLOWS_ELSEWHERE)],
    "docs/coming-from/temporal.md": [
        ("An example", "python", WORKFLOWS_ELSEWHERE),
        ("An example", "py", f"{NOT_RUN}is the code of another system"),
    ],
    "docs/how-to/workflows.md": [
        ("In five minutes", "python", f"{README}::test_the_workflow_of_the_page_is_that_of_its_file"),
        ("In five minutes", "sh", f"{README}::test_a_folder_of_code_is_served"),
        ("In five minutes", "sh", f"{README}::test_a_folder_of_code_is_served"),
        ("Steps", "python", SITE),
        ("Files", "python", "tests/tasks/worker/test_live_files.py::test_the_workflow_of_the_page_shortens_a_file"),
        ("Long workflows", "python", SITE),
        ("Test them", "python", f"{BLOCKS_TEST}::test_the_test_of_a_workflow_passes_as_it_stands"),
    ],
    "docs/how-to/a2a.md": [
        (
            "With the official client",
            "sh",
            f"{NOT_RUN}needs a package index; tests/interop/environments.py does the same, once",
        ),
        ("With the official client", "python", "tests/interop/test_clients.py::test_the_program_of_the_how_to"),
        ("With curl", "sh", f"{BLOCKS_TEST}::test_curl_gets_the_task_when_it_is_over"),
        ("Handle plain text", "yaml", f"{BLOCKS_TEST}::test_a_text_is_a_prompt_for_the_default_model"),
        ("Answer with a flow", "yaml", FLOW_OF_TEXTS),
        ("Answer with a flow", "yaml", FLOW_OF_TEXTS),
        ("Write a message handler", "python", f"{BLOCKS_TEST}::test_a_text_means_what_the_handler_of_the_page_says"),
        ("Over gRPC", "sh", SITE),
        ("Sign the card", "sh", SITE),
    ],
    "docs/how-to/mcp.md": [
        ("Connect a host", "sh", f"{NOT_RUN}needs the program of another vendor"),
        ("Connect a host", "json", f"{NOT_RUN}is the file of another program"),
        ("See a tree inside the chat", "yaml", APP),
        ("See a tree inside the chat", "sh", APP),
        (
            "Let hosts get tokens",
            "yaml",
            "tests/a2a/mcp/test_authorization.py::test_a_host_finds_the_authorization_server",
        ),
        (
            "Call it from a program",
            "sh",
            f"{NOT_RUN}needs a package index; tests/interop/environments.py does the same, once",
        ),
        ("Call it from a program", "python", "tests/interop/test_mcp_clients.py::test_the_program_of_the_how_to"),
        ("Offer executors as tools", "yaml", "tests/a2a/mcp/test_page.py::test_the_operator_offers_executors_as_tools"),
    ],
    "docs/how-to/ag-ui.md": [
        (
            "Connect a front end",
            "sh",
            f"{NOT_RUN}needs a package registry; tests/interop/environments.py does the same, once",
        ),
        ("Connect a front end", "javascript", "tests/interop/test_ag_ui.py::test_the_program_of_the_how_to"),
        ("An example", "sh", "tests/interop/test_front_end.py::test_a_run_is_shown_and_its_question_answered"),
        ("Answer questions", "json", "tests/a2a/agui/test_page.py::test_the_answer_of_the_page_is_recorded"),
    ],
    "docs/how-to/openai-clients.md": [
        ("Run a flow", "sh", f"{NOT_RUN}needs a package index; the library is in requirements/dev.txt"),
        ("Run a flow", "python", "tests/interop/test_openai.py::test_the_programs_of_the_how_to"),
        ("Answer questions", "python", "tests/interop/test_openai.py::test_the_programs_of_the_how_to"),
    ],
    "docs/how-to/accounts.md": [
        ("Accounts", "sh", f"{SERVERS}::site"),
        ("Roles", "sh", f"{SERVERS}::test_users_are_made_and_changed_beside_the_server"),
        ("Tokens for people", "sh", f"{SERVERS}::test_a_password_buys_a_token"),
        ("API keys for programs", "sh", f"{SERVERS}::test_a_key_works_until_it_is_revoked"),
        (
            "Change the secret",
            "sh",
            "tests/acceptance/test_secret_change.py::test_the_commands_of_the_page_keep_the_old_secret_and_make_a_new_one",
        ),
    ],
    "docs/how-to/approvals.md": [
        ("Approvals: let a person decide", "json", APPROVALS),
        ('Take another branch at "no"', "json", APPROVALS),
        ("Ask with a form", "json", APPROVALS),
        ("Remind and escalate", "json", APPROVALS),
        ("Ask from your own executor", "python", APPROVALS),
    ],
    "docs/how-to/wait.md": [
        ("Wait until a time", "json", WAITS),
        ("Wait for an event", "json", WAITS),
        ("Wait for an event", "sh", WAITS),
        ("The address of a wait", "sh", WAITS),
        ("Wait in your own executor", "python", WAITS),
    ],
    "docs/how-to/schedules.md": [
        ("Run trees at times", "sh", SCHEDULES),
        ("Run trees at times", "json", SCHEDULES),
        ("See what it did", "sh", SCHEDULES),
        ("See what it did", "sh", SCHEDULES),
        ("As fields of a task", "json", SCHEDULED),
        ("Run a task from another scheduler", "sh", SCHEDULED),
        ("Run a task from another scheduler", "sh", SCHEDULED),
    ],
    "docs/how-to/notifications.md": [
        ("Send a message when a run fails or asks", "sh", NOTIFICATIONS),
        ("Send a message when a run fails or asks", "json", NOTIFICATIONS),
    ],
    "docs/how-to/call.md": [
        ("curl", "sh", f"{CALL}::test_curl_waits_follows_and_goes_on"),
        ("curl", "json", f"{CALL}::test_curl_waits_follows_and_goes_on"),
        ("curl", "sh", f"{CALL}::test_curl_waits_follows_and_goes_on"),
        ("curl", "sh", f"{CALL}::test_curl_waits_follows_and_goes_on"),
        ("Python", "python", f"{CALL}::test_the_client_comes_back_after_a_break"),
        ("With httpx alone", "python", f"{CALL}::test_so_does_httpx_alone"),
        ("With httpx alone", "python", f"{CALL}::test_so_does_httpx_alone"),
        ("JavaScript", "javascript", f"{CALL}::test_so_does_node"),
        ("JavaScript", "javascript", f"{CALL}::test_so_does_node"),
        ("In a browser", "javascript", f"{CALL}::test_so_does_the_browsers_own_client"),
        ("With a token", "sh", f"{CALL}::test_the_token_goes_where_the_page_says"),
        ("Errors", "sh", f"{CALL}::test_a_wrong_call_is_answered_as_shown"),
        ("Errors", "json", f"{CALL}::test_a_wrong_call_is_answered_as_shown"),
    ],
    "docs/how-to/pass-results.md": [
        ("Pass results from task to task", "json", f"{BLOCKS_TEST}::test_results_are_passed_on_as_the_page_says"),
        ("Give a run its inputs", "json", f"{BLOCKS_TEST}::test_results_are_passed_on_as_the_page_says"),
        ("Take one way or another", "json", f"{BLOCKS_TEST}::test_results_are_passed_on_as_the_page_says"),
        ("Go on without a task", "json", f"{BLOCKS_TEST}::test_results_are_passed_on_as_the_page_says"),
    ],
    "docs/how-to/history.md": [
        ("Run again from the middle", "json", f"{BLOCKS_TEST}::test_a_tree_is_forked_as_the_page_says"),
        ("Run again from the middle", "sh", f"{BLOCKS_TEST}::test_a_tree_is_forked_as_the_page_says"),
    ],
    "docs/how-to/flows.md": [
        ("Save a flow", "json", f"{BLOCKS_TEST}::test_a_flow_is_saved_and_run_as_the_page_says"),
        ("Run it", "json", f"{BLOCKS_TEST}::test_a_flow_is_saved_and_run_as_the_page_says"),
        ("From the command line", "yaml", f"{BLOCKS_TEST}::test_a_file_is_the_same_flow"),
        ("From the command line", "sh", f"{BLOCKS_TEST}::test_a_file_is_the_same_flow"),
    ],
    "docs/how-to/repeat-and-spawn.md": [
        ("Run a template for each item of a list", "json", f"{BLOCKS_TEST}::test_trees_grow_as_the_page_says"),
        ("Summarise each entry of a list", "json", KILLED),
        ("Run something again until it is good", "json", f"{BLOCKS_TEST}::test_trees_grow_as_the_page_says"),
        ("Poll until a job is done", "json", KILLED),
        ("Add tasks that a result names", "json", f"{BLOCKS_TEST}::test_trees_grow_as_the_page_says"),
        ("Let a model write the tasks", "json", f"{BLOCKS_TEST}::test_trees_grow_as_the_page_says"),
        (
            "Go step by step",
            "python",
            "tests/tasks/worker/test_steps.py::test_the_executor_of_the_page_counts_down",
        ),
        ("Run a tree of its own", "json", f"{BLOCKS_TEST}::test_trees_grow_as_the_page_says"),
    ],
    "docs/how-to/call-agents.md": [
        ("Call other agents", "json", f"{BLOCKS_TEST}::test_another_agent_gets_what_the_task_before_it_found"),
    ],
    "docs/how-to/call-mcp-servers.md": [
        ("Configure servers", "yaml", MCP_SERVERS),
        ("Configure servers", "python", MCP_SERVERS),
        ("Call a tool", "json", MCP_SERVERS),
        ("For crews", "json", f"{MCP_CREWS}::test_the_crew_of_the_page_works"),
    ],
    "docs/how-to/call-services.md": [
        ("Send e-mail", "yaml", f"{SERVICES}::site"),
        ("Send e-mail", "json", f"{SERVICES}::test_a_mail_is_sent"),
        ("Talk to a WebSocket", "json", f"{SERVICES}::test_a_websocket_answers"),
        ("Run trees on another server", "json", f"{SERVICES}::test_another_server_runs_a_flow"),
        ("Read a web page", "json", f"{SERVICES}::test_a_page_is_read"),
        ("Run a command on another host", "yaml", f"{SERVICES}::site"),
        ("Run a command on another host", "json", f"{SERVICES}::test_a_command_runs_there"),
        ("Call a gRPC method", "json", f"{SERVICES}::test_a_method_is_called"),
    ],
    "docs/how-to/deploy.md": [
        ("Install", "sh", f"{NOT_RUN}needs a package index; tests/test_packaging.py installs the wheel"),
        ("PostgreSQL", "sh", f"{SERVERS}::test_the_database_of_the_page_is_used"),
        ("Several machines", "sh", "tests/acceptance/test_guide.py::test_web_and_worker_may_be_two_commands"),
        (
            "Uvicorn directly",
            "sh",
            "tests/acceptance/test_starts.py::test_every_way_to_start_starts_a_server_with_a_worker",
        ),
        ("Docker", "sh", DOCKER),
        ("Compose", "sh", DOCKER),
        (
            "systemd",
            "sh",
            f"{NOT_RUN}needs the machine's root and a published release; tests/test_deploy.py checks the units",
        ),
        (
            "Restart without downtime",
            "nginx",
            "tests/acceptance/test_restarts.py::test_a_server_of_two_is_restarted_without_a_lost_request",
        ),
    ],
    "docs/how-to/llm-keys.md": [
        ("Send a key with a request", "bash", f"{BLOCKS_TEST}::test_the_request_of_the_page_on_keys_uses_its_key"),
        ("Store a key on the server", "bash", f"{BLOCKS_TEST}::test_a_key_is_asked_for_and_shown_by_its_end"),
        ("Store a key on the server", "python", f"{BLOCKS_TEST}::test_a_script_gets_a_key_back"),
        ("Where a key is sent", "yaml", SITE),
        ("Encryption keys", "bash", f"{BLOCKS_TEST}::test_a_key_is_changed_by_sealing_anew"),
        ("Encryption keys", "bash", f"{BLOCKS_TEST}::test_a_key_is_changed_by_sealing_anew"),
    ],
    "docs/how-to/secrets.md": [
        ("Secrets", "bash", f"{BLOCKS_TEST}::test_a_secret_is_asked_for_and_not_shown"),
        ("Use a secret in a task", "json", f"{BLOCKS_TEST}::test_the_task_of_the_page_on_secrets_needs_its_secret"),
        ("Share a secret", "bash", f"{BLOCKS_TEST}::test_a_secret_is_shared"),
        ("In your own executors", "python", f"{BLOCKS_TEST}::test_an_executor_asks_for_a_secret"),
    ],
    "docs/how-to/budgets.md": [
        ("See what was used", "bash", f"{BLOCKS_TEST}::test_the_usage_of_models_is_listed"),
        ("Limit a run", "json", f"{BLOCKS_TEST}::test_a_budget_ends_a_run"),
        ("Limit each user", "yaml", f"{BLOCKS_TEST}::test_a_user_has_a_limit_each_day"),
    ],
    "docs/how-to/evaluate.md": [
        ("Compare two versions", "yaml", EVALUATE),
        ("Compare two versions", "csv", EVALUATE),
        ("Compare two versions", "sh", EVALUATE),
        ("Compare two versions", "text", EVALUATE),
        ("Rows from runs", "sh", EVALUATE),
        ("Let a model judge", "yaml", EVALUATE),
        ("Let a model judge", "sh", EVALUATE),
        ("Ask a person", "yaml", EVALUATE),
        ("Ask a person", "sh", EVALUATE),
        ("Compare models, prompts and workflows", "sh", EVALUATE),
        ("Over the interfaces", "json", EVALUATE),
    ],
    "docs/how-to/improve-answers.md": [
        ("The flow that is in use", "yaml", IMPROVE),
        ("The flow that is in use", "sh", IMPROVE),
        ("The flow that is in use", "sh", IMPROVE),
        ("Rows from last week's runs", "sh", IMPROVE),
        ("A second prompt", "sh", IMPROVE),
        ("A judge, and a person for the doubtful answers", "yaml", IMPROVE),
        ("A judge, and a person for the doubtful answers", "yaml", IMPROVE),
        ("A judge, and a person for the doubtful answers", "sh", IMPROVE),
        ("A judge, and a person for the doubtful answers", "text", IMPROVE),
        ("Move the label", "sh", IMPROVE),
        ("Stop CI below 0.9", "sh", IMPROVE),
    ],
    "docs/how-to/labels.md": [
        ("Move a label", "yaml", LABELS),
        ("Move a label", "sh", LABELS),
        ("Require an experiment", "sh", LABELS),
        ("Store what users say", "json", LABELS),
        ("Watch a version with sampled judges", "sh", LABELS),
        ("Watch a version with sampled judges", "sh", LABELS),
    ],
    "docs/how-to/files.md": [
        ("Files", "json", FILES),
        ("Send and get files", "sh", FILES),
        ("Send and get files", "python", FILES),
        ("Send and get files", "bash", FILES),
        ("Ask for files in forms", "json", FILES_IN_FORMS),
        ("Ask for files in forms", "bash", FILES_IN_FORMS),
        ("Use files in tasks", "json", f"{FILES_PAGE}::test_the_function_of_the_page_reads_its_file"),
        ("Use files in tasks", "python", f"{FILES_PAGE}::test_the_function_of_the_page_reads_its_file"),
        ("Take a flow and its files to another server", "sh", FILES_IN_FORMS),
        ("Know what happens to large results", "json", LARGE_RESULTS),
        ("Know what happens to large results", "yaml", LARGE_RESULTS),
        ("Keep them in a bucket", "yaml", "tests/apflow_site/test_config.py::test_the_bucket_of_the_page_on_files"),
        ("Back them up", "sh", f"{NOT_RUN}needs rsync; tests/acceptance/test_backup.py copies in this order"),
    ],
    "docs/how-to/summarise-documents.md": [
        ("Write the two functions", "python", DOCUMENTS),
        ("Start the server", "yaml", DOCUMENTS),
        ("Start the server", "bash", DOCUMENTS),
        ("Save the flow", "json", DOCUMENTS),
        ("Save the flow", "sh", DOCUMENTS),
        ("Run it", "sh", DOCUMENTS),
        ("Get the report", "sh", DOCUMENTS),
    ],
    "docs/how-to/limits.md": [
        ("Set a limit", "yaml", LIMITS),
        ("Set a limit", "json", LIMITS),
        ("Set a limit", "sh", LIMITS),
        ("See what waits, and why", "sh", LIMITS),
        ("Change a limit while workers run", "sh", LIMITS),
        ("Limit yourself", "sh", LIMITS),
        ("Pause", "sh", LIMITS),
    ],
    "docs/how-to/checks.md": [
        ("Check an answer", "json", f"{BLOCKS_TEST}::test_an_answer_is_checked"),
        ("Check an answer", "sh", f"{BLOCKS_TEST}::test_an_answer_is_checked"),
    ],
    "docs/how-to/cache.md": [
        ("Try it", "json", CACHE),
        ("Try it", "sh", CACHE),
        ("Say how long, and what counts", "json", CACHE),
        ("See which tasks may have it", "python", CACHE),
        ("Agents", "json", CACHE),
        ("See and clear what is stored", "sh", CACHE),
    ],
    "docs/how-to/llm.md": [
        ("Try it without a key", "json", f"{BLOCKS_TEST}::test_a_model_without_a_key_answers"),
        ("Call a model", "bash", f"{BLOCKS_TEST}::test_a_model_is_asked_with_the_key_of_the_request"),
        ("Call a model", "json", f"{BLOCKS_TEST}::test_a_prompt_holds_the_result_of_another_task"),
        ("Call a model", "json", f"{BLOCKS_TEST}::test_a_model_chooses_the_way"),
        ("Call a model", "json", f"{BLOCKS_TEST}::test_a_provider_with_a_fault_is_asked_again"),
        (
            "Ask another model if one fails",
            "json",
            f"{BLOCKS_TEST}::test_another_model_answers_if_one_fails",
        ),
        (
            "Send a second request to a slow model",
            "json",
            f"{BLOCKS_TEST}::test_a_second_request_is_sent_to_a_slow_model",
        ),
        ("Continue a conversation", "json", f"{BLOCKS_TEST}::test_a_conversation_goes_on"),
        ("Run a crew", "json", f"{BLOCKS_TEST}::test_a_crew_of_two_models_writes_its_page"),
        ("Run a crew", "yaml", f"{BLOCKS_TEST}::test_a_crew_uses_the_tool_that_the_operator_named"),
        ("Generate a tree", "bash", f"{BLOCKS_TEST}::test_a_model_writes_a_tree_that_runs"),
        ("Custom endpoints", "yaml", f"{BLOCKS_TEST}::test_a_text_is_a_prompt_for_the_default_model"),
    ],
    "docs/how-to/bring-your-code.md": [
        *(("In ten minutes", language, TEN_MINUTES) for language in ("yaml", "sh", "json", "sh")),
        ("A crew", "python", f"{BLOCKS_TEST}::test_a_crew_of_the_operators_code_runs"),
        ("A crew", "yaml", f"{BLOCKS_TEST}::test_a_crew_of_the_operators_code_runs"),
        ("A crew", "json", f"{BLOCKS_TEST}::test_a_crew_of_the_operators_code_runs"),
        ("A LangGraph graph", "python", f"{BLOCKS_TEST}::test_a_graph_of_the_operators_code_asks"),
        ("A LangGraph graph", "yaml", f"{BLOCKS_TEST}::test_a_graph_of_the_operators_code_asks"),
        ("A LangGraph graph", "json", f"{BLOCKS_TEST}::test_a_graph_of_the_operators_code_asks"),
        ("Code first with `@entrypoint`", "python", TASKS),
        ("Code first with `@entrypoint`", "yaml", TASKS),
        ("Code first with `@entrypoint`", "json", TASKS),
        ("Models of a graph", "python", f"{BLOCKS_TEST}::test_a_graph_calls_a_model_with_the_key_of_the_run"),
    ],
    "docs/how-to/agent-frameworks.md": [
        *((heading, "python", FRAMEWORKS) for heading in ("Pydantic AI", "OpenAI Agents SDK")),
        *(
            (heading, "python", FRAMEWORKS)
            for heading in ("Tools that must not run twice", "Ask a person first", "Test it")
        ),
    ],
    "docs/how-to/agents.md": [
        ("Offer functions as tools", "python", f"{AGENTS}::test_the_agents_of_the_page_work"),
        ("Offer functions as tools", "json", f"{AGENTS}::test_the_agents_of_the_page_work"),
        (
            "When a worker dies during a call",
            "json",
            f"{AGENTS}::test_what_the_page_says_about_interrupted_calls_is_accepted",
        ),
        ("Offer executors as tools", "yaml", f"{AGENTS}::test_the_settings_of_the_page_allow_an_executor"),
        ("Offer tools of MCP servers", "json", f"{MCP_AGENTS}::test_the_agent_of_the_page_works"),
        ("Let agents call other agents", "json", f"{AGENTS}::test_the_agents_of_the_page_work"),
        ("Let agents call other agents", "json", f"{AGENTS}::test_the_agents_of_the_page_work"),
        ("Ask a person first", "json", f"{AGENTS}::test_the_agents_of_the_page_work"),
        (
            "Limit what it may spend, and fall back to another model",
            "json",
            f"{AGENTS}::test_the_agents_of_the_page_work",
        ),
    ],
    "docs/how-to/operate.md": [
        ("Check the installation", "sh", f"{BLOCKS_TEST}::test_the_doctor_finds_nothing_red"),
        ("See what failed", "sh", f"{BLOCKS_TEST}::test_the_status_of_the_last_day_is_shown"),
        ("Find out why a task waits", "sh", f"{BLOCKS_TEST}::test_an_example_that_failed_is_explained"),
        ("Show the effective settings", "sh", f"{BLOCKS_TEST}::test_the_settings_are_listed"),
        ("Metrics", "yaml", f"{SERVERS}::test_prometheus_gets_the_metrics_with_a_key_from_a_file"),
        ("Logs", "json", f"{SERVERS}::test_a_line_of_the_log_is_as_shown"),
        ("Audit log", "sh", "tests/admin/test_audit.py::test_the_command_lists_what_happened"),
        (
            "Upgrade and downgrade",
            "sh",
            "tests/aipartnerupflow/test_doctor.py::test_all_is_green_while_a_server_runs_and_the_worker_is_missed_when_it_does_not",
        ),
        (
            "Bound the size of the database",
            "yaml",
            "tests/tasks/services/upkeep/test_retention.py::test_trees_go_by_the_status_and_age_of_their_last_run",
        ),
        (
            "Shares of users",
            "yaml",
            "tests/apflow_site/test_config.py::test_the_shares_of_the_page_load_from_a_file_and_from_a_variable",
        ),
        (
            "Maintenance",
            "sh",
            "tests/tasks/queue/test_maintenance.py::test_a_paused_server_shows_it_and_runs_nothing_until_its_end",
        ),
    ],
    "docs/how-to/python-client.md": [
        ("Use the Python client", "python", CLIENT),
        ("Build a tree", "python", CLIENT),
        ("Build a tree", "python", CLIENT),
        ("Start a run and come back to it", "python", CLIENT),
        ("Watch a run", "python", CLIENT),
        ("Watch a run", "python", CLIENT),
    ],
    "docs/how-to/coding-agents.md": [
        ("Install the skill", "sh", CODING_AGENTS),
        ("Check files without a server", "sh", CODING_AGENTS),
        ("Let the editor check them", "yaml", CODING_AGENTS),
        ("Let the editor check them", "json", CODING_AGENTS),
    ],
    "docs/how-to/django.md": [
        ("Share the database", "sh", f"{NOT_RUN}needs PostgreSQL's own program; {DJANGO} uses such a schema"),
        ("Set up the project", "python", DJANGO),
        ("Start a run", "python", DJANGO),
        ("Start a run", "sh", DJANGO),
    ],
    "docs/how-to/run-commands.md": [
        ("Run commands", "sh", COMMANDS),
        ("Run commands", "yaml", COMMANDS),
        ("Run commands", "json", COMMANDS),
        ("Run containers", "yaml", CONTAINERS),
        ("Run containers", "json", CONTAINERS),
    ],
    "docs/how-to/stream.md": [
        (
            "Follow runs live",
            "javascript",
            "tests/acceptance/test_snippet.py::test_the_recipe_of_the_page_on_streams_loses_and_doubles_nothing_over_cut_connections",
        ),
    ],
    "docs/how-to/upgrade.md": [
        ("Import your trees", "sh", "tests/test_upgrade_page.py::test_the_commands_import_trees"),
        ("Import your trees", "sh", "tests/test_upgrade_page.py::test_the_commands_import_trees"),
    ],
    "docs/how-to/alerts.md": [
        ("Alerts", "yaml", "tests/apflow_site/test_alerts.py::test_the_page_names_the_file_with_the_rules"),
    ],
    "docs/how-to/telemetry.md": [
        (
            "Send them to a collector",
            "sh",
            "tests/apflow_site/test_tracing.py::test_a_request_its_run_its_tasks_and_their_calls_are_one_trace",
        ),
        ("Let others continue the trace", "yaml", "tests/tasks/telemetry/test_tracing.py::test_the_page_is_true"),
        ("Grafana", "sh", f"{NOT_RUN}needs an account with another service"),
        ("Langfuse", "sh", f"{NOT_RUN}needs an account with another service"),
        ("Phoenix", "sh", "tests/interop/test_phoenix.py::test_phoenix_shows_an_agent_with_its_model_calls_and_tools"),
    ],
    "docs/how-to/inbound-hooks.md": [
        ("Inbound hooks", "sh", f"{HOOKS_PAGE}::test_the_commands_of_the_page_start_the_flow"),
        ("What is verified", "json", f"{HOOKS_PAGE}::test_the_scheme_of_the_page_is_accepted"),
        ("Answer questions from Slack", "bash", f"{HOOKS_PAGE}::test_the_commands_for_slack_work"),
    ],
    "docs/how-to/webhooks.md": [
        ("Webhooks", "bash", WEBHOOKS),
        (
            "List and delete webhooks",
            "sh",
            "tests/aipartnerupflow/cli/test_webhooks.py::test_the_commands_of_the_page_list_and_delete",
        ),
        ("Verify the signature", "python", WEBHOOKS),
    ],
    "docs/how-to/pools.md": [
        ("Where tasks run", "json", POOLS),
        ("Choose for an installation", "yaml", POOLS),
        ("The environment of a process", "yaml", POOLS),
        (
            "Use a Ray cluster",
            "sh",
            f"{NOT_RUN}needs a cluster; tests/acceptance/test_ray.py starts one in the same way",
        ),
        ("Use a Ray cluster", "yaml", POOLS),
    ],
    "docs/how-to/write-an-executor.md": [
        ("Write an executor", "python", REGISTRY),
        ("Register it", "yaml", TASKS),
        (
            "Register it",
            "toml",
            "tests/tasks/executors/test_registry.py::test_the_entry_point_of_the_page_is_the_one_that_is_read",
        ),
        ("Register it", "json", TASKS),
        ("Use a plain function", "python", REGISTRY),
        ("Use a plain function", "json", TASKS),
        ("Go further", "python", REGISTRY),
        ("HTTP", "python", REGISTRY),
        ("SDKs and configuration", "python", OWN_CLIENTS),
        ("SDKs and configuration", "yaml", OWN_CLIENTS),
        ("Language models", "python", REGISTRY),
        ("Test it", "python", REGISTRY),
    ],
    "docs/quickstart.md": [
        ("Run a tree", "sh", TUTORIAL),
        ("Save it as a flow", "sh", TUTORIAL),
        ("Repair a run that failed", "sh", TUTORIAL),
        ("Repair a run that failed", "sh", TUTORIAL),
        ("Run a tree over HTTP", "sh", QUICK_START),
        ("Read the result", "sh", QUICK_START),
        ("Follow the events", "sh", QUICK_START),
        ("Run it again", "sh", QUICK_START),
        (
            "Failures, retries and timeouts",
            "json",
            f"{BLOCKS_TEST}::test_an_address_is_called_and_the_answer_is_the_result",
        ),
    ],
    "docs/reference/executors.md": [
        (executor_id, "json", f"{NOT_RUN}generated from the declarations, which tests/test_reference.py compares")
        for executor_id in sorted(EXECUTORS)
        for _ in ("the inputs", "the result")
    ],
    "docs/reference/a2a.md": [("Conformance", "sh", "tests/a2a/protocol/test_conformance.py::conformance_agent")],
    "docs/reference/websocket.md": [("WebSocket", "json", f"{BLOCKS_TEST}::test_a_message_of_the_socket_is_as_shown")],
    "docs/support.md": [("Upgrade to 1.0.0", "sh", f"{NOT_RUN}switches to an earlier checkout")],
    "docs/reliability.md": [("The fault programme", "text", f"{NOT_RUN}takes hours; tests/faults/table.py writes it")],
}
RUN_BY: Final = sorted({by for blocks in INVENTORY.values() for *_, by in blocks if not by.startswith(NOT_RUN)})


@pytest.mark.parametrize("page", [named(page) for page in PAGES])
def test_every_block_of_a_page_is_in_the_inventory_and_no_other(page: str) -> None:
    listed = [(heading, language) for heading, language, _ in INVENTORY.get(page, [])]
    assert listed == [(block.heading, block.language) for block in BLOCKS if block.page == page]


def test_no_block_escapes_the_search_for_blocks() -> None:
    """A fence of another kind would."""
    fences = [
        line for page in PAGES for line in page.read_text().splitlines() if line.lstrip().startswith(("```", "~~~"))
    ]
    assert len(fences) == 2 * len(BLOCKS)


@pytest.mark.parametrize("by", RUN_BY)
def test_who_runs_a_block_is_there(by: str) -> None:
    path, _, name = by.partition("::")
    assert name in functions_of(path)


@cache
def functions_of(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
