"""Webhooks by their rows: who may have one, where it may lead, and how far it is after each answer."""

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import Settings

from llmkeys.cipher import CannotUnseal
from tasks.ids import new_id
from tasks.models import Run, TaskEvent, Webhook, WebhookDelivery
from tasks.queue import leases
from tasks.rules.exceptions import InvalidParams, LimitReached
from tasks.services.messages.webhook_requests import Request, WebhookResponse, request_of, send
from tasks.services.messages.webhooks import add_webhook, problems, remove_webhook, secrets_of, webhooks_of
from tasks.worker.webhook_deliveries import MAX_PER_HOST, claim, record, release, seconds_until_due, sweep
from tests.receiver import Receiver, receiving
from tests.sections import replace
from tests.tasks.trees import ROOT, finish, start, step, store

pytestmark = [pytest.mark.both_engines_nightly, pytest.mark.django_db(transaction=True)]

URL = "https://example.com/hook"
OK = WebhookResponse(status_code=200)
BUSY = WebhookResponse(status_code=503, error="The receiver answered 503.", may_retry=True)
REFUSED = WebhookResponse(status_code=400, error="The receiver answered 400.")
GONE = WebhookResponse(status_code=410, error="The receiver answered 410.", is_gone=True)
DEAD = f"{leases.this_host()}/99999999/1.00"
Json = dict[str, Any]


@pytest.fixture
def run() -> Run:
    """A run that no worker takes, with two events."""
    store(ROOT, step("a"))
    run = start()
    happens(run, "task_start", "task_completed")
    return run


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


def happens(run: Run, *types: str, at: datetime | None = None) -> None:
    """Events, as the journal writes them."""
    now = at or datetime.now(UTC)
    for type_ in types:
        run.last_seq += 1
        event = {"type": type_, "seq": run.last_seq, "run_id": run.id, "timestamp": now.isoformat()}
        TaskEvent.objects.create(
            run_id=run.id, seq=run.last_seq, type=type_, task_id="a", payload=event, created_at=now
        )
    Run.objects.filter(id=run.id).update(last_seq=run.last_seq)


def event_of(run: Run, seq: int) -> Json:
    event: Json = TaskEvent.objects.get(run_id=run.id, seq=seq).payload
    return event


def claimed(owner: str = "one") -> Webhook:
    (webhook,) = claim(owner=owner, limit=10)
    return webhook


def with_settings(settings: Settings, **fields: Any) -> None:
    settings.APFLOW = replace(settings.APFLOW, webhooks=replace(settings.APFLOW.webhooks, **fields))


# --- what may be asked for ---


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ({"url": "ftp://example.com/"}, "url", "write http(s)://"),
        ({"url": "https://user:pass@example.com/"}, "url", "without user name"),
        ({"url": "https://example.com/#part"}, "url", "'#'"),
        ({"url": "http://127.0.0.1/"}, "url", "127.0.0.1 is not public. The operator may set webhooks.allow_private"),
        ({"url": "http://[::1]/"}, "url", "::1 is not public"),
        ({"url": "http://10.1.2.3/"}, "url", "10.1.2.3 is not public"),
        ({"url": "http://169.254.169.254/latest/meta-data"}, "url", "is not public"),
        ({"url": "http://2130706433/"}, "url", "neither a host name nor an address"),
        (
            {"url": "http://1.1.1.1:25/"},
            "url",
            "port 25 is not allowed. The operator may add '25' to webhooks.allowed_ports",
        ),
        ({"url": "https://example.com/" + "x" * 5000}, "url", "at most 4,096"),
        ({"token": ""}, "token", "printable ASCII"),
        ({"token": "a\nb"}, "token", "printable ASCII"),
        ({"headers": {"Host": "other"}}, "headers.Host", "set by the server"),
        ({"headers": {"content-length": "3"}}, "headers.content-length", "set by the server"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "headers.Transfer-Encoding", "set by the server"),
        ({"headers": {"X-Apflow-Signature": "sha256=0"}}, "headers.X-Apflow-Signature", "set by the server"),
        ({"headers": {"X-A": "b\r\nX-C: d"}}, "headers.X-A", "printable ASCII"),
        ({"headers": {"X A": "b"}}, "headers.X A", "is not a valid header name"),
        ({"headers": {"X-A": "b", "x-a": "c"}}, "headers.x-a", "given twice"),
        ({"headers": {f"X-{number}": "b" for number in range(33)}}, "headers", "at most 32"),
        ({"authentication": {"credentials": "a\r\nb"}}, "authentication.credentials", "printable ASCII"),
    ],
)
def test_what_it_may_not_be_is_said_by_field(given: Json, field: str, reason: str) -> None:
    asked: Json = {"url": URL} | given
    found = dict(problems(**asked))
    assert reason in found[field]


def test_an_operator_may_allow_private_addresses(settings: Settings) -> None:
    with_settings(settings, allow_private=True)
    assert not list(problems(url="http://127.0.0.1:9000/"))
    assert not list(problems(url="http://[fd00::1]:9000/"))
    assert "port 25" in dict(problems(url="http://1.1.1.1:25/"))["url"]


def test_nothing_is_stored_of_one_that_is_wrong(run: Run) -> None:
    with pytest.raises(InvalidParams) as caught:
        add_webhook(run=run, url="http://127.0.0.1/")
    assert caught.value.problems[0][0] == "url"
    assert webhooks_of(run) == []


@pytest.mark.both_engines
def test_a_run_has_no_more_than_allowed(run: Run, settings: Settings) -> None:
    with_settings(settings, max_per_run=2)
    for number in range(2):
        add_webhook(run=run, url=URL, config_id=f"c{number}")
    add_webhook(run=run, url=URL, config_id="c1")  # in the place of the one of that name
    with pytest.raises(LimitReached, match=r"at most 2 webhooks \(webhooks.max_per_run\)"):
        add_webhook(run=run, url=URL)
    assert [webhook.config_id for webhook in webhooks_of(run)] == ["c0", "c1"]


@pytest.mark.both_engines
def test_it_is_removed_once(run: Run) -> None:
    add_webhook(run=run, url=URL, config_id="mine")
    assert remove_webhook(run, config_id="mine") is True
    assert remove_webhook(run, config_id="mine") is False
    assert webhooks_of(run) == []


def test_its_secrets_are_sealed_for_it_alone(run: Run) -> None:
    first = add_webhook(
        run=run, url=URL, token="the token", headers={"X-Key": "k"}, authentication={"scheme": "Bearer"}
    )
    second = add_webhook(run=run, url=URL)
    secrets = secrets_of(first)
    assert (secrets.token, secrets.headers, secrets.authentication) == (
        "the token",
        {"X-Key": "k"},
        {"scheme": "Bearer"},
    )
    assert "the token" not in repr(secrets)
    assert secrets_of(second).token != secrets.token
    second.sealed = first.sealed
    with pytest.raises(CannotUnseal):
        secrets_of(second)


# --- how far it is ---


@pytest.mark.both_engines
def test_it_is_due_when_there_is_an_event(run: Run) -> None:
    assert seconds_until_due() is None
    webhook = add_webhook(run=run, url=URL, after=2)
    assert seconds_until_due() == float("inf")
    happens(run, "log")
    assert seconds_until_due() == 0
    assert [each.id for each in claim(owner="one", limit=10)] == [webhook.id]
    assert claim(owner="two", limit=10) == []


@pytest.mark.both_engines
def test_a_host_has_no_more_places_than_its_share(run: Run, settings: Settings) -> None:
    with_settings(settings, max_per_run=40)
    slow = [add_webhook(run=run, url=f"https://SLOW.example/{number}").id for number in range(30)]
    quick = add_webhook(run=run, url="http://quick.example:80/").id
    first, *others = claim(owner="one", limit=20)
    assert [each.id for each in (first, *others)] == [*slow[:MAX_PER_HOST], quick]
    assert seconds_until_due(served=[first, *others]) == float("inf")
    assert claim(owner="one", limit=20, served=[first, *others]) == []
    release(first, owner="one")
    assert seconds_until_due(served=others) == 0
    assert len(claim(owner="one", limit=20, served=others)) == 1
    assert len(claim(owner="two", limit=20)) == MAX_PER_HOST


@pytest.mark.both_engines
def test_a_process_does_not_claim_what_it_has_released_and_still_serves(run: Run) -> None:
    """The courier's task for a webhook ends some turns of its loop after the release. A claim meanwhile would have no task."""
    add_webhook(run=run, url=URL)
    happens(run, "log")
    served = claim(owner="one", limit=10)
    release(served[0], owner="one")
    assert seconds_until_due(served=served) == float("inf")
    assert claim(owner="one", limit=10, served=served) == []
    assert seconds_until_due() == 0
    assert claim(owner="one", limit=10) == served


@pytest.mark.both_engines
def test_one_for_a_run_that_is_over_is_closed_from_the_start(run: Run) -> None:
    finish(run)
    run.refresh_from_db()
    assert add_webhook(run=run, url=URL, after=run.last_seq).closed_at is not None
    assert seconds_until_due() is None


@pytest.mark.both_engines
def test_what_arrives_moves_it_on_until_the_last(run: Run) -> None:
    happens(run, "final")
    add_webhook(run=run, url=URL)
    webhook = claimed()
    assert [record(webhook, event_of(run, seq), OK, owner="one") for seq in (1, 2, 3)] == [True, True, False]
    webhook.refresh_from_db()
    assert (webhook.next_seq, webhook.lease_owner) == (4, None)
    assert webhook.closed_at is not None
    assert list(WebhookDelivery.objects.order_by("seq").values_list("seq", "status", "attempts")) == [
        (1, "delivered", 1),
        (2, "delivered", 1),
        (3, "delivered", 1),
    ]


@pytest.mark.both_engines
def test_one_that_is_busy_gets_the_same_event_later(run: Run) -> None:
    add_webhook(run=run, url=URL)
    assert (
        record(
            claimed(),
            event_of(run, 1),
            WebhookResponse(error="No answer.", may_retry=True, retry_after_seconds=60),
            owner="one",
        )
        is False
    )
    webhook = Webhook.objects.get()
    assert (webhook.next_seq, webhook.attempt, webhook.lease_owner, webhook.failures) == (1, 1, None, 0)
    assert 0 < (seconds_until_due() or 0) < 61
    assert claim(owner="one", limit=10) == []
    row = WebhookDelivery.objects.get()
    assert (row.status, row.attempts, row.status_code, row.error) == ("retrying", 1, None, "No answer.")


def test_no_receiver_can_ask_for_more_patience_than_there_is(run: Run) -> None:
    add_webhook(run=run, url=URL)
    record(
        claimed(),
        event_of(run, 1),
        WebhookResponse(error="Busy.", may_retry=True, retry_after_seconds=1e9),
        owner="one",
    )
    assert (seconds_until_due() or 0) <= 24 * 3600


@pytest.mark.both_engines
def test_a_thousand_tries_do_not_overflow(run: Run) -> None:
    add_webhook(run=run, url=URL)
    Webhook.objects.update(attempt=5000)
    record(claimed(), event_of(run, 1), BUSY, owner="one")
    assert Webhook.objects.get().attempt == 5001


@pytest.mark.both_engines
def test_what_is_too_old_is_given_up(run: Run) -> None:
    happens(run, "log", at=datetime.now(UTC) - timedelta(hours=25))
    add_webhook(run=run, url=URL, after=2)
    assert record(claimed(), event_of(run, 3), BUSY, owner="one") is True
    assert Webhook.objects.get().failures == 1
    assert WebhookDelivery.objects.get().status == "failed"


def test_ten_failures_in_a_row_disable_it(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    happens(run, *["log"] * 20)
    add_webhook(run=run, url="https://example.com/a-secret-path")
    webhook = claimed()
    answers = [REFUSED, REFUSED, OK, *[REFUSED] * 10]
    went_on = [record(webhook, event_of(run, seq), answer, owner="one") for seq, answer in enumerate(answers, start=1)]
    assert went_on == [True] * 12 + [False]
    webhook.refresh_from_db()
    assert webhook.disabled_at is not None
    assert seconds_until_due() is None
    assert f"The webhook to example.com of run {run.id} is disabled" in caplog.text
    assert "a-secret-path" not in caplog.text


@pytest.mark.both_engines
def test_one_that_is_gone_is_disabled(run: Run) -> None:
    add_webhook(run=run, url=URL)
    assert record(claimed(), event_of(run, 1), GONE, owner="one") is False
    assert Webhook.objects.get().disabled_at is not None


@pytest.mark.both_engines
def test_an_event_that_is_not_for_it_leaves_no_trace(run: Run) -> None:
    add_webhook(run=run, url=URL)
    assert record(claimed(), event_of(run, 1), None, owner="one") is True
    assert Webhook.objects.get().next_seq == 2
    assert not WebhookDelivery.objects.exists()


@pytest.mark.both_engines
def test_who_lost_its_claim_moves_nothing(run: Run) -> None:
    add_webhook(run=run, url=URL)
    late = claimed("slow")
    Webhook.objects.update(lease_expires_at=datetime.now(UTC) - timedelta(seconds=1))
    quick = claimed("quick")
    assert record(late, event_of(run, 1), OK, owner="slow") is False
    assert record(quick, event_of(run, 1), OK, owner="quick") is True
    release(late, owner="slow")
    assert Webhook.objects.get().lease_owner == "quick"


@pytest.mark.both_engines
def test_who_is_removed_meanwhile_gets_no_more(run: Run) -> None:
    add_webhook(run=run, url=URL, config_id="mine")
    webhook = claimed()
    remove_webhook(run, config_id="mine")
    assert record(webhook, event_of(run, 1), OK, owner="one") is False


@pytest.mark.both_engines
def test_the_claim_of_a_dead_process_ends_with_the_next_sweep(run: Run) -> None:
    add_webhook(run=run, url=URL)
    claimed(DEAD)
    sweep()
    assert claimed("another").lease_owner == "another"


@pytest.mark.both_engines
def test_the_claim_of_a_living_process_stays(run: Run) -> None:
    add_webhook(run=run, url=URL)
    claimed(leases.process_name())
    claimed_elsewhere = add_webhook(run=run, url=URL)
    claimed("another-machine/1/1.00")
    sweep()
    assert claim(owner="another", limit=10) == []
    assert claimed_elsewhere.closed_at is None


@pytest.mark.both_engines
def test_one_that_waits_for_what_never_comes_is_swept_away(run: Run) -> None:
    add_webhook(run=run, url=URL, after=2)
    finish(run)
    sweep()
    assert seconds_until_due() is None


# --- what is sent ---


def test_a_name_that_leads_to_a_private_address_is_refused_at_delivery(run: Run, receiver: Receiver) -> None:
    webhook = add_webhook(run=run, url=f"http://localhost:{receiver.port}/")
    answer = sent(webhook)
    assert not answer.may_retry
    assert "is not public" in (answer.error or "")
    assert receiver.received == []


def test_a_redirect_is_not_followed(run: Run, receiver: Receiver, settings: Settings) -> None:
    with_settings(settings, allow_private=True)
    receiver.answer(307, Location=receiver.url)
    answer = sent(add_webhook(run=run, url=receiver.url))
    assert (answer.status_code, answer.may_retry) == (307, False)
    assert "Redirects are not followed" in (answer.error or "")
    assert len(receiver.received) == 1


def test_a_receiver_that_does_not_answer_is_tried_again(run: Run, receiver: Receiver, settings: Settings) -> None:
    with_settings(settings, allow_private=True, timeout_seconds=1)
    receiver.is_held = True
    answer = sent(add_webhook(run=run, url=receiver.url))
    assert answer.may_retry
    assert "no complete response within 1 s" in (answer.error or "")


def test_a_renderer_makes_the_request_of_its_kind(run: Run, settings: Settings) -> None:
    settings.APFLOW_WEBHOOK_RENDERERS = {"other": "tests.tasks.services.messages.test_webhooks.other"}
    webhook = add_webhook(run=run, url=URL, kind="other", token="t", headers={"X-Mine": "1"})
    assert request_of(webhook, {"seq": 1}) is None
    request = request_of(webhook, {"seq": 2})
    assert request == Request(body=b"2", headers={"X-Mine": "1", "Content-Type": "text/plain", "X-Token": "t"})


def other(webhook: Webhook, event: Json, secrets: Any) -> Request | None:
    """It wants even numbers only."""
    if event["seq"] % 2:
        return None
    return Request(body=b"%d" % event["seq"], headers={"Content-Type": "text/plain", "X-Token": secrets.token})


def sent(webhook: Webhook) -> WebhookResponse:
    request = request_of(webhook, {"seq": 1, "type": "log", "id": new_id()})
    assert request is not None
    return asyncio.run(send(webhook, request))
