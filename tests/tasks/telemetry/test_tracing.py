"""The places of spans, and where they are sent, without a collector."""

from pathlib import Path

import pytest
from pytest_django import Settings

from apflow_site.config import FILE_VARIABLE, load
from tasks.telemetry import tracing
from tasks.telemetry.tracing import Place, Span, headers_for, place_in
from tests.documents import text
from tests.sections import replace

TEXT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        (TEXT, True),
        (TEXT[:-2] + "00", True),
        ("cc" + TEXT[2:] + "-what-comes-later", True),
        (None, False),
        ("", False),
        ("ff" + TEXT[2:], False),
        (TEXT.upper(), False),
        (TEXT[:-1], False),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", False),
        (f"00-0af7651916cd43dd8448eb211c80319c-{'0' * 16}-01", False),
    ],
)
def test_a_traceparent_is_read_as_the_specification_has_it(text: str | None, is_one: bool) -> None:
    place = place_in(text)
    assert (place is not None) == is_one
    if place is not None and text is not None:
        assert str(place) == f"00{text[2:55]}"


@pytest.mark.parametrize(
    ("host", "allowed", "is_sent"),
    [
        ("api.openai.com", ["*"], True),
        ("api.openai.com", [], False),
        ("api.openai.com", [".example.com"], False),
        ("tools.example.com", [".example.com"], True),
        ("Example.COM.", [".example.com"], True),
        ("badexample.com", [".example.com"], False),
        ("tools.example.com", ["example.com"], False),
        ("127.0.0.1", ["127.0.0.1"], True),
    ],
)
def test_only_the_hosts_of_the_setting_get_the_trace(
    settings: Settings, host: str, allowed: list[str], is_sent: bool
) -> None:
    telemetry = replace(settings.APFLOW.telemetry, traceparent_to=tuple(allowed))
    settings.APFLOW = replace(settings.APFLOW, telemetry=telemetry)
    span = Span("here", Place(1, 2, True), parent=None, attributes={})
    expected = {"traceparent": f"00-{1:032x}-{2:016x}-01"} if is_sent else {}
    assert (headers_for(host, span), headers_for(host, None)) == (expected, {})


def test_the_page_is_true(tmp_path: Path) -> None:
    """The list that it shows is one that the configuration takes, and allows what it names."""
    file = tmp_path / "config.yaml"
    file.write_text(text("docs/how-to/telemetry.md", "Let others continue the trace", "yaml"))
    config = load({FILE_VARIABLE: str(file), "AIPARTNERUPFLOW_DATA_DIR": str(tmp_path)})
    assert config.telemetry.traceparent_to == (".example.com", "localhost")
    assert not config.telemetry.content


def test_a_span_of_the_same_key_has_the_same_place_in_every_process() -> None:
    run = Span("run", Place(1, 2, True), parent=None, attributes={})
    first, second, other = (run.child("task", attributes={}, key=key) for key in ("run/a", "run/a", "run/b"))
    assert first.place == second.place
    assert first.place.trace_id == other.place.trace_id
    assert len({run.place.span_id, first.place.span_id, other.place.span_id}) == 3
    tracing.enter(first)
    try:
        assert tracing.current() == str(first.place)
    finally:
        tracing.enter(None)
