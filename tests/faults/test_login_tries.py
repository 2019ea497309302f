"""S7: passwords are guessed from ten addresses, and user names by the time that an answer takes."""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.a2a.a2a_client import SETTINGS
from tests.faults.rows import Report, Row, size
from tests.servers import COMMAND, Server, environment_of, real_server

TRIES = size("LOGIN_TRIES", 1000)
TIMINGS = size("LOGIN_TIMINGS", 500)
ADDRESSES = 10
ALLOWED_A_MINUTE = 20
"""From one address, whichever names are tried."""
AREA = 0.55
"""Under the curve of a guess by time: 0.5 is chance."""
PROXY = {"AIPARTNERUPFLOW_SERVER_TRUSTED_PROXIES": "127.0.0.1"}

pytestmark = [pytest.mark.nightly, pytest.mark.faults, pytest.mark.both_engines, pytest.mark.timeout(3600)]


def tried(http: httpx.Client, name: str, address: str) -> tuple[int, float]:
    """The status of a login with a wrong password, and the seconds that it took."""
    begun = time.perf_counter()
    answer = http.post(
        "/auth/login", json={"username": name, "password": "wrong"}, headers={"X-Forwarded-For": address}
    )
    return answer.status_code, time.perf_counter() - begun


def guess(server: Server) -> tuple[int, float]:
    """How many tries were looked at, from ten addresses at once, and in how many minutes."""

    def from_address(number: int) -> int:
        with httpx.Client(base_url=server.url, timeout=60) as http:
            names = ("alice", "bob", "unknown")
            statuses = [tried(http, names[n % 3], f"198.51.100.{number}")[0] for n in range(TRIES // ADDRESSES)]
        assert set(statuses) <= {401, 429}
        return statuses.count(401)

    begun = time.monotonic()
    with ThreadPoolExecutor(ADDRESSES) as pool:
        looked_at = sum(pool.map(from_address, range(ADDRESSES)))
    return looked_at, (time.monotonic() - begun) / 60


def area_under_curve(known: list[float], unknown: list[float]) -> float:
    """How well the time tells the two apart: 0.5 is not at all, 1 always."""
    above = sum((a > b) + (a == b) / 2 for a in known for b in unknown)
    area = above / (len(known) * len(unknown))
    return max(area, 1 - area)


def timings(server: Server) -> float:
    """The area for a known and for unknown names, in turns, each time from another address."""
    seconds: dict[str, list[float]] = {"alice": [], "unknown": []}
    with httpx.Client(base_url=server.url, timeout=60) as http:
        for number in range(TIMINGS):
            for kind, times in seconds.items():
                name = kind if kind == "alice" else f"unknown{number}"
                status, taken = tried(http, name, f"203.0.{number // 250}.{number % 250}")
                assert status == 401
                times.append(taken)
    return area_under_curve(seconds["alice"], seconds["unknown"])


def test_passwords_and_names_are_guessed(database: str, report: Report) -> None:
    with real_server(database, "--no-worker", env=SETTINGS | PROXY) as server:
        environment = environment_of(server.database_url, server.data_dir) | SETTINGS
        create = [*COMMAND, "users", "create", "alice", "--password", "correct horse battery staple"]
        subprocess.run(create, env=environment, check=True, capture_output=True)
        looked_at, minutes = guess(server)
        area = timings(server)
        allowed = ALLOWED_A_MINUTE * ADDRESSES * (int(minutes) + 2)
        report(
            Row(
                id="S7",
                fault="Passwords are guessed from ten addresses; user names by time",
                size=f"{TRIES:,} tries, {2 * TIMINGS:,} timings",
                note=f"{looked_at} passwords compared in {minutes:.1f} minutes, {TRIES - looked_at} refused with 429; "
                f"time tells known from unknown names with an area of {area:.2f} (0.5 is chance)",
            )
        )
        assert looked_at <= allowed
        assert area <= AREA
