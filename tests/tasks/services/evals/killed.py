"""A program that moves a label and is killed at each step of it: the label has moved with its audit entry, or neither has happened."""

from itertools import count

from aipartnerupflow import bootstrap

bootstrap()

import django  # noqa: E402

django.setup()

from accounts import audit  # noqa: E402
from accounts.callers import LOCAL  # noqa: E402
from accounts.models import AuditEntry  # noqa: E402
from apflow_site.prepare import prepare  # noqa: E402
from tasks.models import Flow  # noqa: E402
from tasks.services import flows  # noqa: E402
from tasks.services.evals import labels  # noqa: E402
from tests.tasks.services.files.killed import deadly, in_child  # noqa: E402


def move(version: int) -> None:
    labels.set_label(caller=LOCAL, name="tea", label="production", version=version, reason=f"Version {version}")


def check() -> None:
    moves = Flow.objects.get(name="tea").labels["production"]["moves"]
    entries = AuditEntry.objects.filter(action=audit.Action.FLOW_LABELLED).order_by("-id")
    assert [move["reason"] for move in moves] == [entry.details["reason"] for entry in entries][: len(moves)]


def lives() -> int:
    for number in (1, 2):
        task = {"name": "echo_executor", "inputs": {"text": str(number)}}
        flows.save_flow(caller=LOCAL, name="tea", tasks=[task])
    move(1)
    for death in count(1):

        def dying(death: int = death) -> None:
            moments = count(1)
            for owner, name in ((labels, "_locked"), (labels, "_refuse_move"), (Flow, "save"), (audit, "record")):
                setattr(owner, name, deadly(getattr(owner, name), moments, death))
            labels.set_label = deadly(labels.set_label, moments, death)
            current = Flow.objects.get(name="tea").labels["production"]["moves"][0]["version"]
            move(3 - current)

        ended_by = in_child(dying)
        in_child(check)
        if not ended_by:
            return death
    raise AssertionError


if __name__ == "__main__":
    prepare()
    print(lives())  # noqa: T201
