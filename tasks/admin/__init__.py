"""The admin's pages of what this app holds: to look at, with links to the dashboard. Django imports this by name."""

from django.contrib import admin
from django_q.models import Failure, OrmQ, Schedule, Success

from tasks.admin import questions, runs, tasks, webhooks

__all__ = ["questions", "runs", "tasks", "webhooks"]

# django-q2's own pages let one edit the signed packages of its queue. Where the work stands is not in its tables (docs/design.md).
for model in (Failure, OrmQ, Schedule, Success):
    admin.site.unregister(model)
