"""`aipartnerupflow notifications …` against a real server."""

from collections.abc import Callable

from tests.terminal import Screen

Show = Callable[..., Screen]
HOOK = "https://hooks.example.com/apflow"


def test_a_notification_is_stored_listed_and_deleted(screen: Show) -> None:
    said = [
        screen("notifications", "set", "on-call", "--to", HOOK),
        screen("notifications", "list"),
        screen("notifications", "delete", "on-call"),
        screen("notifications", "delete", "on-call"),
        screen("notifications", "list"),
    ]
    assert [each.code for each in said] == [0] * 5
    assert f"When a run fails, a message goes to {HOOK}." in " ".join(said[0].err.split())
    assert "whsec_" in said[0].err
    assert "all runs" in said[1].out and HOOK in said[1].out
    assert "Deleted on-call." in said[2].err
    assert "There was no notification on-call." in said[3].err
    assert "notifications set on-call --to ops@example.com" in " ".join(said[4].err.split())


def test_what_cannot_be_stored_is_refused(screen: Show) -> None:
    mail = screen("notifications", "set", "a", "--to", "ops@example.com")
    flow = screen("notifications", "set", "a", "--to", HOOK, "--flow", "no-such")
    assert (mail.code, "no mail server" in mail.err) == (2, True)
    assert (flow.code, "no-such" in flow.err) == (3, True)
    assert screen("notifications", "set", "a").code == 2
