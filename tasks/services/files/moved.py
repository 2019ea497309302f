"""Large values that are stored as files, and their return: a reference is a file value with `"$value": true`."""

from collections.abc import Sequence
from typing import Any

import orjson

from accounts.callers import Caller
from apflow_site.db import pools
from tasks.models import File
from tasks.rules.exceptions import InvalidParams, TasksError
from tasks.rules.files import FILE, NoValueAt, moved_in, with_values
from tasks.services.files import stored_object
from tasks.services.files.references import AT_ONCE
from tasks.storage.bulk import batched
from tasks.storage.file_store import ObjectDamaged, StoredObject, on_thread


class TooMuch(TasksError):
    """The values would have more bytes together than are allowed."""


async def whole(value: Any, *, owner: str, most_bytes: int, is_deep: bool = True) -> tuple[Any, dict[str, Any]]:
    """Return the JSON value with the moved values that it has, at any depth, and these by the ids of their files.

    Not `is_deep`: only itself, if it is one. Raises TooMuch if they have more than `most_bytes` together, InvalidParams for a
    file that the owner does not have or that is no value, and StoreUnavailable.
    """
    caller, size, read = Caller(user_id=owner), 0, dict[str, Any]()
    while refs := [ref for ref in moved_in(value) if is_deep or ref is value]:
        for ids in batched(sorted({ref[FILE] for ref in refs} - read.keys()), AT_ONCE):
            objects = await pools.read(_objects, ids, caller=caller)
            size += sum(each.size for each in objects.values())
            if size > most_bytes:
                raise TooMuch(
                    f"The values that are stored as files have more than {most_bytes:,} bytes together "
                    "(limits.value_bytes). Map over them, or read them with context.files."
                )
            for file_id, stored in objects.items():
                read[file_id] = await on_thread(_json_in, stored)
        try:
            value = with_values(value, read)
        except NoValueAt as error:
            raise InvalidParams([("inputs", str(error))]) from None
        if not is_deep:
            break
    return value, read


def _objects(file_ids: Sequence[str], *, caller: Caller) -> dict[str, StoredObject]:
    own = File.objects.for_caller(caller).filter(id__in=file_ids, completed_at__isnull=False)
    found = {file.id: stored_object(file) for file in own.select_related("stored")}
    if missing := sorted(set(file_ids) - found.keys()):
        raise InvalidParams([("inputs", f"there is no complete file '{missing[0][:100]}' of this owner")])
    return found


def _json_in(stored: StoredObject) -> Any:
    try:
        return orjson.loads(b"".join(stored.read()))
    except (ObjectDamaged, orjson.JSONDecodeError):
        raise InvalidParams([("inputs", f"the file of a large value is damaged (object {stored.key})")]) from None
