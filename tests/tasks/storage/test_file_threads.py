"""The threads for files: users take turns."""

import asyncio
import threading

from apflow_site.db.calls import working_for
from tasks.storage.file_store import THREADS, on_thread


async def test_one_user_whose_calls_wait_for_a_disk_holds_up_no_other() -> None:
    has_answered = threading.Event()
    try:
        working_for.set("alice-of-file-threads")
        slow = [on_thread(has_answered.wait, 300) for _ in range(3 * THREADS)]
        working_for.set("bob-of-file-threads")
        assert await asyncio.wait_for(on_thread(lambda: "read"), 60) == "read"
        assert not any(call.done() for call in slow)
    finally:
        has_answered.set()
    assert all(await asyncio.gather(*slow))
