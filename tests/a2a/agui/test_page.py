"""The page about AG-UI is true."""

import json
import re
from pathlib import Path
from uuid import uuid4

import msgspec

from a2a.agui import events
from a2a.agui.params import ForwardedProps
from tests.a2a.agui.front_end import FrontEnd, question, tree
from tests.documents import text

PAGE = "docs/how-to/ag-ui.md"
WRITTEN = (Path(__file__).parents[3] / PAGE).read_text()


def test_the_answer_of_the_page_is_recorded(alice: FrontEnd) -> None:
    answer = json.loads(text(PAGE, "Answer questions", "json"))
    thread = f"thread-{uuid4()}"
    ask = question(options=["yes", "no"])
    (interrupt,) = alice.run(**tree(ask), threadId=thread)[-1]["outcome"]["interrupts"]
    answer["resume"][0]["interruptId"] = interrupt["id"]
    assert alice.run(threadId=thread, **answer)[-1]["result"]["comment"] == "Well done."


def test_the_page_names_every_event_and_every_property() -> None:
    sent = {each.__struct_config__.tag for each in vars(events).values() if is_event(each)}
    missing = [
        name for name in sent if f"`{name}`" not in WRITTEN and f"`{re.sub('_[A-Z]+$', '', name)}_*`" not in WRITTEN
    ]
    assert missing == ["RUN_STARTED"]
    assert [name for name in ForwardedProps.__struct_fields__ if not re.search(rf"[.`]{name}`", WRITTEN)] == []


def is_event(value: object) -> bool:
    return (
        isinstance(value, type)
        and issubclass(value, msgspec.Struct)
        and value not in (events.Event, events.Attributed, msgspec.Struct)
    )
