"""Read-only admin of this app's models, with links to the dashboard. Django imports this module by name."""

from django.contrib import admin
from django_q.models import Failure, OrmQ, Schedule, Success

from tasks.admin import runs, schedules, tasks

__all__ = ["runs", "schedules", "tasks"]

# django-q2's admin can edit the signed payloads of its queue, and its tables do not show the state of runs (docs/design/pages.md).
for model in (Failure, OrmQ, Schedule, Success):
    admin.site.unregister(model)
