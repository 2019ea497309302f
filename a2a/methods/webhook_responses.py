"""The results of the methods for webhooks, as types."""

from typing import Literal

from a2a.methods.response import Response


class RunWebhook(Response, frozen=True, kw_only=True):
    """A URL that receives the events of a run. `last_seq` is the last event that was delivered or given up; 0: none.

    `kind` is `native`, `a2a` or `a2a_0_3` for push notifications, and `failure` or `failure_email` for notifications
    about runs that fail. `state` is `finished` when the run has ended and all was sent, and `disabled` when the
    receiver rejected too much.
    """

    id: str
    run_id: str
    kind: str
    url: str
    method: str
    state: Literal["open", "finished", "disabled"]
    last_seq: int
    created_at: str


class RunWebhooks(Response, frozen=True, kw_only=True):
    """The webhooks of a run, in the order in which they were added."""

    webhooks: list[RunWebhook]


class WebhookDeleted(Response, frozen=True, kw_only=True):
    """Whether there was a webhook with that id."""

    webhook_id: str
    deleted: bool
