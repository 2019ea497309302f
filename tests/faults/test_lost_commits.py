"""T9: between the workers and PostgreSQL, connections break before a COMMIT arrives, or before its answer does."""

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.acceptance.effects import Effects
from tests.faults.judge import assert_sound, await_rest, begun_again, completed_twice, ends, lost
from tests.faults.proxy import proxied
from tests.faults.rows import Report, Row, size
from tests.servers import COMMAND, SAME_KEYS, new_database, real_server, running

TRANSITIONS = size("TRANSITIONS", 10_000)
STEPS = 12
TREES = TRANSITIONS // (2 * (STEPS + 1))
"""A step starts and ends; so does the group that holds the steps."""
SHARE = 0.01

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.timeout(1800)]


def test_answers_to_commits_are_lost(engine_urls: dict[str, str], effects: Effects, report: Report) -> None:
    accepted = [f"tree{number}" for number in range(TREES)]
    with new_database(engine_urls["postgres"]) as url, proxied(socket_of(url), share=SHARE) as proxy:
        bad_url = f"postgresql://postgres@127.0.0.1:{proxy.port}{urlsplit(url).path}?sslmode=disable&gssencmode=disable"
        with real_server(url, "--no-worker", env=SAME_KEYS) as server:
            port = int(server.url.rpartition(":")[2])
            worker = running([*COMMAND, "worker"], port=port, database_url=bad_url, env=SAME_KEYS, is_forked=False)
            with worker:
                for name in accepted:
                    server.rpc("tasks.execute", {"tasks": effects.chain(name, STEPS, seconds=0.01)})
                await_rest(server)
            report(
                Row(
                    id="T9",
                    fault="1 % of the COMMITs of the workers are carried out but not answered, and 1 % do not arrive",
                    size=f"{TREES * 2 * (STEPS + 1):,} transitions in {proxy.commits:,} commits",
                    lost=lost(server, accepted),
                    twice=completed_twice(server),
                    again=begun_again(effects),
                    note=f"{proxy.unanswered} unanswered, {proxy.broken} did not arrive",
                    engine="postgres",
                )
            )
            assert ends(server) == {1: TREES * (STEPS + 1)}
            assert_sound(server)


def socket_of(url: str) -> str:
    """The path of PostgreSQL's Unix socket."""
    folder = parse_qs(urlsplit(url).query)["host"][0]
    return f"{folder}/.s.PGSQL.5432"
