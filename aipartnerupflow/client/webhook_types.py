"""Types of the replies about the webhooks of runs."""

from typing import Literal, TypedDict


class RunWebhook(TypedDict):
    """A URL that receives the events of a run. `last_seq` is the last event that was delivered or given up; 0: none."""

    id: str
    run_id: str
    kind: str
    url: str
    method: str
    state: Literal["open", "finished", "disabled"]
    last_seq: int
    created_at: str


class RunWebhooks(TypedDict):
    """The webhooks of a run, in the order in which they were added."""

    webhooks: list[RunWebhook]


class WebhookDeleted(TypedDict):
    """Whether there was a webhook with that id."""

    webhook_id: str
    deleted: bool
