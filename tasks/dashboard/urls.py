"""URLs of the dashboard. A task id comes last, because it may contain any character, slashes too."""

from collections.abc import Callable
from typing import Any

from django.urls import URLPattern, path, re_path

from tasks.dashboard import (
    actions,
    filters,
    flows,
    home,
    hooks,
    inbox,
    json_text,
    logs,
    new,
    runs,
    schedules,
    settings,
    trace,
    usage,
    views,
)

app_name = "dashboard"


def _of_task(place: str, view: Callable[..., Any], name: str) -> URLPattern:
    return re_path(rf"^{place}/(?P<task_id>[^\0]+)\Z", view, name=name)


urlpatterns = [
    path("", home.home, name="home"),
    path("seen/", home.seen, name="seen"),
    path("retry/", home.retry, name="retry_group"),
    path("tasks/", views.trees, name="trees"),
    path("new/", new.new_task, name="new"),
    path("new/tree/", new.new_tree, name="new_tree"),
    path("flows/", flows.overview, name="flows"),
    path("flows/<str:name>/", flows.flow, name="flow"),
    path("flows/<str:name>/run/", flows.run, name="run_flow"),
    path("flows/<str:name>/delete/", flows.delete, name="delete_flow"),
    path("flows/<str:name>/pause/", flows.pause, name="pause_flow"),
    path("flows/<str:name>/resume/", flows.resume, name="resume_flow"),
    path("runs/", runs.overview, name="runs"),
    path("runs/selected/", actions.selected, name="selected_runs"),
    path("runs/compare/", runs.compared, name="compare_runs"),
    path("runs/<str:run_id>/", runs.run, name="run_page"),
    path("calls/<str:call_id>/", trace.recorded, name="call"),
    path("calls/<str:call_id>/replay/", trace.replay, name="replay"),
    path("calls/<str:call_id>/feedback/", trace.feedback, name="feedback"),
    path("views/", filters.save_view, name="save_view"),
    path("views/delete/", filters.delete_view, name="delete_view"),
    path("inbox/", inbox.inbox, name="inbox"),
    path("schedules/", schedules.overview, name="schedules"),
    path("schedules/new/", schedules.new, name="new_schedule"),
    path("schedules/preview/", schedules.preview, name="preview_schedule"),
    path("schedules/<str:schedule_id>/", schedules.schedule, name="schedule"),
    path("schedules/<str:schedule_id>/edit/", schedules.edit, name="edit_schedule"),
    path("schedules/<str:schedule_id>/trigger/", schedules.trigger, name="trigger_schedule"),
    path("schedules/<str:schedule_id>/pause/", schedules.pause, name="pause_schedule"),
    path("schedules/<str:schedule_id>/resume/", schedules.resume, name="resume_schedule"),
    path("schedules/<str:schedule_id>/delete/", schedules.delete, name="delete_schedule"),
    path("schedules/<str:schedule_id>/backfill/", schedules.backfill, name="backfill_schedule"),
    path("hooks/", hooks.overview, name="hooks"),
    path("hooks/<str:name>/", hooks.hook, name="hook"),
    path("hooks/<str:name>/replay/", hooks.replay, name="replay_delivery"),
    path("hooks/<str:name>/delete/", hooks.delete, name="delete_hook"),
    path("usage/", usage.overview, name="usage"),
    path("executors/", views.executors, name="executors"),
    path("settings/", settings.overview, name="settings"),
    path("settings/llm-keys/", settings.set_llm_key, name="set_llm_key"),
    path("settings/llm-keys/delete/", settings.delete_llm_key, name="delete_llm_key"),
    path("workers/", views.workers, name="workers"),
    path("settings/secrets/", settings.set_secret, name="set_secret"),
    path("settings/secrets/delete/", settings.delete_secret, name="delete_secret"),
    path("settings/notifications/", settings.set_notification, name="set_notification"),
    path("settings/notifications/test/", settings.test_notification, name="test_notification"),
    path("settings/notifications/delete/", settings.delete_notification, name="delete_notification"),
    path("settings/api-keys/", settings.create_api_key, name="create_api_key"),
    path("settings/api-keys/revoke/", settings.revoke_api_key, name="revoke_api_key"),
    _of_task("tasks", views.tree, "tree"),
    _of_task("head", views.head, "head"),
    _of_task("growth", views.growth, "growth"),
    _of_task("panel", views.panel, "panel"),
    _of_task("trace", trace.trace, "trace"),
    _of_task("logs", logs.log, "log"),
    re_path(rf"^value/(?P<kind>{'|'.join(json_text.KINDS)})/(?P<task_id>[^\0]+)\Z", json_text.value, name="value"),
    _of_task("run", actions.run, "run"),
    _of_task("run-with", flows.run_tree, "run_tree"),
    _of_task("save-flow", flows.save, "save_flow"),
    _of_task("restart", actions.restart, "restart"),
    _of_task("fork", actions.edit_fork, "fork"),
    _of_task("cancel", actions.cancel, "cancel"),
    _of_task("answer", inbox.answer_question, "answer"),
    _of_task("delete", actions.delete, "delete"),
]
