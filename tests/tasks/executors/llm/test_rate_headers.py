"""What providers say is left of their limits, as they write it, and that it tightens the limits of all workers."""

from datetime import UTC, datetime

import pytest

from tasks.executors.llm.rate_headers import rate_headers, reports_in
from tasks.rules.limits import REQUESTS, TOKENS, Rate, Report

NOW = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("headers", "reports"),
    [
        ({}, []),
        ({"Content-Type": "application/json", "X-RateLimit-Remaining-Requests": "many"}, []),
        (
            {
                "X-RateLimit-Limit-Requests": "60",
                "X-RateLimit-Remaining-Requests": "59",
                "X-RateLimit-Reset-Requests": "1s",
                "X-RateLimit-Limit-Tokens": "150000",
                "X-RateLimit-Remaining-Tokens": "0",
                "X-RateLimit-Reset-Tokens": "6m0s",
            },
            [Report(REQUESTS, 59, 1.0), Report(TOKENS, 0, 360 / 150_000)],
        ),
        (
            {
                "anthropic-ratelimit-requests-limit": "50",
                "anthropic-ratelimit-requests-remaining": "0",
                "anthropic-ratelimit-requests-reset": "2027-01-01T00:00:30Z",
            },
            [Report(REQUESTS, 0, 0.6)],
        ),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "250ms"}, [Report(REQUESTS, 0, 0.25)]),
        ({"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "1.5"}, [Report(REQUESTS, 0, 1.5)]),
        ({"x-ratelimit-remaining-requests": "3", "x-ratelimit-reset-requests": "soon"}, [Report(REQUESTS, 3, 0.0)]),
    ],
)
def test_what_is_left(headers: dict[str, str], reports: list[Report]) -> None:
    assert reports_in(rate_headers(headers), now=NOW) == reports


def test_no_more_start_than_are_left_and_then_as_many_as_the_provider_refills() -> None:
    rate = Rate(60_000, 60.0)
    assert rate.burst == 600
    assert rate.room(rate.left(0.0, 7, seconds=1.0)) == 7
    assert rate.left(0.0, 700, seconds=1.0) == 0.0  # that changes nothing
    assert rate.wait(rate.left(0.0, 0, seconds=2.0)) == pytest.approx(2.0)
    assert rate.left(5.0, 7, seconds=0.0) == 5.0
