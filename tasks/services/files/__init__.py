"""Files: create and complete them, read and list them, delete them, and remove what nothing needs any more.

An object of the store has a row before its first byte and until after its last (docs/design/files.md). The verbs here that
change rows are sync and atomic; `receiving` and `reading` do the work of the disk, outside of any transaction.
"""

import hashlib
import re
import secrets
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final

from django.conf import settings
from django.core import signing
from django.db import IntegrityError, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from accounts.callers import Caller
from accounts.users import is_disabled
from llmkeys.cipher import seal, unseal
from tasks.models import File, FileBytes, FileQuerySet, FileReference, FileSpace, Task
from tasks.rules.exceptions import (
    CannotDelete,
    FileDiffers,
    FileNotFound,
    FileTooLarge,
    InvalidParams,
    LimitReached,
    StatusConflict,
)
from tasks.rules.files import media_type_of, name_problem
from tasks.services.files.references import EVENT, TREE, refer
from tasks.storage.file_store import ObjectBusy, StoredObject, store

STEPS: Final = 2**20, 2**26
"""The fewest and the most bytes that a file of an unknown size reserves at a time: a quarter of what it has."""
NAMED: Final = 3
"""The holders that keep a file from being deleted which the message names."""
SWEPT: Final = 200
"""The files, or objects, that one transaction of the sweep removes."""
OUR_ID: Final = re.compile("[0-9a-f-]{36}")
LINK: Final = "tasks.file_links"  # part of every signature
UPLOAD: Final = "tasks.file_uploads"
PERMIT: Final = "tasks.file_permits"
PERMIT_SECONDS: Final = 86_400
"""The seconds for which a form may be open until its files are sent."""
Doomed = list[str]
"""Keys of objects that nothing refers to any more, which are to be removed from the store."""


@transaction.atomic
def create_file(
    *,
    caller: Caller,
    name: str,
    media_type: str | None = None,
    size: int | None = None,
    sha256: str | None = None,
    is_made: bool = False,
) -> File:
    """Insert a file of the caller whose bytes follow, and reserve its space. `is_made`: a run makes it.

    Raises InvalidParams, or LimitReached if the user has no space for it.
    """
    if problem := name_problem(name):
        raise InvalidParams([("name", problem)])
    if (size or 0) > settings.APFLOW.limits.file_bytes:
        raise InvalidParams([("bytes", f"at most {settings.APFLOW.limits.file_bytes:,} (limits.file_bytes)")])
    reserved = min(STEPS[0], settings.APFLOW.limits.file_bytes) if size is None else size
    reserve(caller.user_id, reserved)
    row = FileBytes(user_id=caller.user_id, bytes=reserved)
    if settings.APFLOW.files.encrypt:
        row.sealed_key = seal(b64encode(secrets.token_bytes(32)).decode(), context=row.context)
    row.save(force_insert=True)
    now = datetime.now(UTC)
    return File.objects.create(
        user_id=caller.user_id,
        name=name,
        media_type=media_type_of(name, media_type),
        bytes=size,
        sha256=sha256,
        stored=row,
        is_made=is_made,
        created_at=now,
        touched_at=now,
    )


def get_file(*, caller: Caller, file_id: str) -> File:
    """Raise FileNotFound, also for a file of another user."""
    found = _with_bytes(file_id, File.objects.for_caller(caller))
    if found is None:
        raise FileNotFound(file_id)
    return found


def complete_files(*, caller: Caller, file_ids: Sequence[str]) -> dict[str, File]:
    """Return the files with these ids that are complete and that the caller may read, with their bytes."""
    ours = [file_id for file_id in file_ids if OUR_ID.fullmatch(file_id)]
    found = File.objects.for_caller(caller).filter(id__in=ours, completed_at__isnull=False).select_related("stored")
    return {file.id: file for file in found}


def _with_bytes(file_id: str, among: FileQuerySet) -> File | None:
    is_ours = OUR_ID.fullmatch(file_id) is not None  # else a database may refuse it
    return among.filter(id=file_id).select_related("stored").first() if is_ours else None


def list_files(*, caller: Caller, limit: int, after: str | None = None, root_id: str | None = None) -> list[File]:
    """Return the files that the caller may see, of those that a tree names if it has a `root_id`; the newest first, after the one with this id."""
    found = File.objects.for_caller(caller).order_by("-id")
    if root_id is not None:
        found = found.filter(references__holder=f"{TREE}{root_id}")
    return list((found if after is None else found.filter(id__lt=after))[:limit])


def space_of(user_id: str) -> int:
    """Return the bytes that the files of a user take, and those that are reserved."""
    return FileSpace.objects.filter(user_id=user_id).values_list("bytes", flat=True).first() or 0


@transaction.atomic
def delete_file(*, caller: Caller, file_id: str) -> Doomed:
    """Delete a file. Its bytes go with it, unless another file of its owner has them, too.

    Raises FileNotFound, or CannotDelete if a tree, a flow, a schedule, a data set or an event names it.
    """
    file = get_file(caller=caller, file_id=file_id)
    File.objects.select_for_update().filter(id=file.id).first()
    holders = list(FileReference.objects.filter(file=file).order_by("id").values_list("holder", flat=True)[: NAMED + 1])
    if holders:
        named = ", ".join(f"'{holder.partition(':')[2]}'" for holder in holders[:NAMED])
        more = " and others" if len(holders) > NAMED else ""
        is_sent = any(holder.startswith(EVENT) for holder in holders)
        until = f" An event has its files for {settings.APFLOW.events.sent_days} days (events.sent_days)."
        raise CannotDelete(
            f"File '{file.id}' cannot be deleted: {named}{more} has it. Delete these first.{until if is_sent else ''}",
            data={"file_id": file.id, "in_the_way": holders[:NAMED]},
        )
    return _remove([file])


@transaction.atomic
def discard(file_ids: Sequence[str]) -> Doomed:
    """Delete those of these files that nothing names: a request sent them, and was refused."""
    unnamed = File.objects.filter(~Exists(FileReference.objects.filter(file=OuterRef("id"))), id__in=file_ids)
    return _remove(list(unnamed.select_for_update()))


# --- bytes that arrive ---


class Receiving:
    """A file whose bytes are being written. The methods block: call them on a thread for files."""

    def __init__(self, file: File, *, at: int = 0, length: int | None = None) -> None:
        """Open the file to write after `at` bytes, `length` if that is known.

        Raises StatusConflict if it is complete, has another number of bytes, or another request writes it; and FileTooLarge.
        """
        self.file = file
        if file.completed_at is not None:
            raise StatusConflict(f"File '{file.id}' is complete.", data={"file_id": file.id, "received": file.bytes})
        refuse_large(at + (length or 0), file)
        stored = stored_object(file)
        try:
            self._object = stored.append(afresh=not at)
        except ObjectBusy:
            raise self._busy() from None
        self._hash = hashlib.sha256()
        size = self._object.size
        if size != at:
            self.close()
            raise StatusConflict(
                f"File '{file.id}' has {size:,} bytes. Continue there.", data={"file_id": file.id, "received": size}
            )
        self._before = StoredObject(key=stored.key, secret=stored.secret, size=at).read()

    def take_up(self) -> bool:
        """Hash a part of what has arrived before. Returns whether there was one: call it until there is none, before `write`."""
        part = next(self._before, b"")
        self._hash.update(part)
        return bool(part)

    @property
    def size(self) -> int:
        return self._object.size

    @property
    def sha256(self) -> str:
        return self._hash.hexdigest()

    def write(self, data: bytes) -> None:
        """Add bytes. Raises FileTooLarge, StoreUnavailable, and StatusConflict if another request has written here."""
        refuse_large(self.size + len(data), self.file)
        self._hash.update(data)
        try:
            self._object.write(data)
        except ObjectBusy:
            raise self._busy() from None

    def complete(self) -> None:
        """Store the rest. Raises FileDiffers if the bytes are not those that were announced."""
        announced = self.file.bytes
        if announced is not None and self.size != announced:
            raise FileDiffers(
                f"File '{self.file.id}' was announced with {announced:,} bytes, and {self.size:,} arrived."
            )
        if self.file.sha256 is not None and self.sha256 != self.file.sha256:
            raise FileDiffers(f"File '{self.file.id}' was announced with another SHA-256 than that of its bytes.")
        try:
            self._object.complete()
        except ObjectBusy:
            raise self._busy() from None

    def close(self, *, keep: bool = True) -> None:
        """End writing. `keep`: another request may continue after these bytes."""
        self._object.close(keep=keep)

    def _busy(self) -> StatusConflict:
        return StatusConflict(
            f"Another request is sending the bytes of file '{self.file.id}'.", data={"file_id": self.file.id}
        )


def received(file: File) -> int:
    """Return how many bytes of a file have arrived, from the store."""
    return stored_object(file).received() if file.completed_at is None else file.bytes or 0


@transaction.atomic
def keep_space(file: File, *, size: int) -> None:
    """Note that bytes arrive, and reserve more for a file of an unknown size.

    Raises FileNotFound, FileTooLarge and LimitReached.
    """
    refuse_large(size, file)
    if not File.objects.filter(id=file.id, completed_at=None).update(touched_at=datetime.now(UTC)):
        raise FileNotFound(file.id)
    if file.bytes is None and size > file.stored.bytes:
        has, (least, most) = file.stored.bytes, STEPS
        step = min(max(least, has // 4), most, settings.APFLOW.limits.file_bytes - has)
        more = max(size - has, step)
        reserve(file.user_id, more)
        FileBytes.objects.filter(key=file.stored_id).update(bytes=F("bytes") + more)
        file.stored.bytes += more


@transaction.atomic
def complete_file(file: File, *, size: int, sha256: str, root_id: str | None = None) -> tuple[File, Doomed]:
    """Complete a file whose bytes are stored. If its owner has the same bytes already, it refers to those, and these are doomed.

    A file that a task of the tree `root_id` made is named by that tree from now on: until its result is stored, which may take
    months, nothing else names it. Raises FileNotFound if the file, or the tree, was deleted meanwhile.
    """
    now = datetime.now(UTC)
    if root_id is not None and Task.objects.select_for_update().filter(id=root_id).first() is None:
        raise FileNotFound(file.id)
    if not File.objects.filter(id=file.id, completed_at=None).update(
        bytes=size, sha256=sha256, completed_at=now, touched_at=None, unused_since=now
    ):
        raise FileNotFound(file.id)
    own, doomed = FileBytes.objects.get(key=file.stored_id), Doomed()
    while True:
        same = FileBytes.objects.select_for_update().filter(user_id=file.user_id, sha256=sha256, doomed_at=None).first()
        if same is not None:
            File.objects.filter(id=file.id).update(stored=same)
            doomed = _doom([own])
            break
        try:
            with transaction.atomic():
                FileBytes.objects.filter(key=own.key).update(sha256=sha256, bytes=size)
        except IntegrityError:  # the same bytes have been completed meanwhile
            continue
        _free(file.user_id, own.bytes - size)
        break
    if root_id is not None:
        refer(f"{TREE}{root_id}", [file.id], owner=file.user_id)
    return File.objects.select_related("stored").get(id=file.id), doomed


@transaction.atomic
def give_up(file: File) -> Doomed:
    """Delete a file that is not complete, with what has arrived of it."""
    found = File.objects.select_for_update().filter(id=file.id, completed_at=None).first()
    return Doomed() if found is None else _remove([found])


def reserve(user_id: str, more: int) -> None:
    """Take space of a user. Raises LimitReached."""
    most = settings.APFLOW.limits.file_bytes_per_user
    FileSpace.objects.bulk_create([FileSpace(user_id=user_id)], ignore_conflicts=True)
    mine = FileSpace.objects.filter(user_id=user_id)
    fits = mine.filter(bytes__lte=most - more) if most else mine
    if not fits.update(bytes=F("bytes") + more):
        raise LimitReached(
            f"Your files would have more than {most:,} bytes (limits.file_bytes_per_user). Delete some of them first.",
            data={"bytes": space_of(user_id), "limit": most},
        )


def refuse_large(size: int, file: File | None = None) -> None:
    """Raise FileTooLarge for more bytes than a file may have, or than this one was announced with."""
    most = settings.APFLOW.limits.file_bytes
    if file is not None and file.bytes is not None and size > file.bytes:
        raise FileTooLarge(f"File '{file.id}' was announced with {file.bytes:,} bytes, and more are sent.")
    if size > most:
        raise FileTooLarge(f"The file has more than {most:,} bytes (limits.file_bytes).", data={"limit": most})


# --- bytes that are read ---


def stored_object(file: File) -> StoredObject:
    """Return the object of a file that was loaded with its bytes. Raises CannotUnseal."""
    row = file.stored
    secret = None if row.sealed_key is None else b64decode(unseal(row.sealed_key, context=row.context))
    return StoredObject(key=row.key, secret=secret, size=file.bytes or 0)


def complete(file: File) -> File:
    """Return the file. Raises StatusConflict if its bytes have not all arrived."""
    if file.completed_at is None:
        raise StatusConflict(f"The bytes of file '{file.id}' have not all arrived.", data={"file_id": file.id})
    return file


# --- links ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A signed link to a file: who has it may read the file until then."""

    token: str
    expires_at: datetime


def link_to(file: File, *, minutes: int | None = None) -> Link:
    """Return a link that is valid for so long, at most `files.link_minutes`. Raises InvalidParams."""
    most = settings.APFLOW.files.link_minutes
    if minutes is not None and minutes > most:
        raise InvalidParams([("minutes", f"at most {most:,} (files.link_minutes)")])
    expires_at = datetime.now(UTC).replace(microsecond=0) + timedelta(minutes=minutes or most)
    token = signing.dumps([file.id, int(expires_at.timestamp())], salt=LINK)
    return Link(token=token, expires_at=expires_at)


def linked_file(file_id: str, *, token: str) -> File:
    """Return the file to which a link leads. Raises FileNotFound, also if the link is not valid any more."""
    try:
        named, expires_at = signing.loads(token, salt=LINK)
    except signing.BadSignature:
        raise FileNotFound(file_id) from None
    found = _with_bytes(file_id, File.objects.all())
    is_over = named != file_id or expires_at <= datetime.now(UTC).timestamp()
    if found is None or is_over or is_disabled(found.user_id):
        raise FileNotFound(file_id)
    return found


def upload_token(file: File) -> str:
    """Return what allows to send the bytes of a file that was announced, without a login."""
    return signing.dumps(file.id, salt=UPLOAD)


def file_to_send(file_id: str, *, token: str) -> File:
    """Return the file whose bytes the token allows to send. Raises FileNotFound, also if the token is not valid any more."""
    try:
        named = signing.loads(token, salt=UPLOAD, max_age=settings.APFLOW.files.upload_hours * 3600)
    except signing.BadSignature:
        raise FileNotFound(file_id) from None
    found = _with_bytes(file_id, File.objects.all())
    if named != file_id or found is None or is_disabled(found.user_id):
        raise FileNotFound(file_id)
    return found


def permit_for(owner: str, *, by: str) -> str:
    """Return what allows a form, which this user fills in, to send files that belong to the owner."""
    return signing.dumps([owner, by], salt=PERMIT)


def permitted_owner(permit: str) -> str:
    """Return whose the files of a form are. Raises InvalidParams if the permit is not valid any more."""
    try:
        owner, by = signing.loads(permit, salt=PERMIT, max_age=PERMIT_SECONDS)
    except signing.BadSignature:
        owner = by = None
    if owner is None or is_disabled(owner) or is_disabled(by):
        raise InvalidParams([("permit", "is not valid any more. Load the page again, and choose the file there")])
    return str(owner)


# --- removal ---


def _remove(files: Sequence[File]) -> Doomed:
    """Delete locked files, and doom the objects that no other file has; in the caller's transaction."""
    keys = sorted({file.stored_id for file in files})
    rows = {row.key: row for row in FileBytes.objects.select_for_update().filter(key__in=keys).order_by("key")}
    File.objects.filter(id__in=[file.id for file in files]).delete()
    left = set(File.objects.filter(stored_id__in=keys).values_list("stored_id", flat=True))
    return _doom([row for key, row in rows.items() if key not in left and row.doomed_at is None])


def _doom(rows: Sequence[FileBytes]) -> Doomed:
    """Free the space of objects. They are removed from the store after the commit."""
    keys = [row.key for row in rows]
    if keys:
        FileBytes.objects.filter(key__in=keys).update(doomed_at=datetime.now(UTC))
    for row in rows:
        _free(row.user_id, row.bytes)
    return Doomed(keys)


def _free(user_id: str, size: int) -> None:
    FileSpace.objects.filter(user_id=user_id).update(bytes=F("bytes") - size)


def remove_objects(doomed: Doomed) -> None:
    """Remove doomed objects from the store. Call it after the commit, on a thread for files, and then `forget_objects`."""
    for key in doomed:
        store().remove(key)


def forget_objects(doomed: Doomed) -> None:
    """Delete the rows of objects that have been removed, unless a writer may still add to them: then the sweep does."""
    _ended().filter(key__in=doomed).delete()


def _ended() -> QuerySet[FileBytes]:
    """Return the doomed objects that have no writer any more."""
    return FileBytes.objects.filter(doomed_at__lte=datetime.now(UTC) - store().lingers)


def sweep_files(*, give_up_at: float = 0.0) -> int:
    """Remove unfinished uploads, unused files and doomed objects, a batch of each and more until this moment. Returns how many.

    It is for a thread of its own in a worker: it also removes objects from the store.
    """
    removed = 0
    while True:
        doomed = _sweep_files()
        keys = Doomed(_ended().values_list("key", flat=True)[:SWEPT])
        remove_objects(keys)
        forget_objects(keys)
        removed += len(keys)
        if not (doomed or keys) or monotonic() >= give_up_at:
            return removed


@transaction.atomic
def _sweep_files() -> Doomed:
    now, days = datetime.now(UTC), settings.APFLOW.retention.unused_file_days
    late = Q(touched_at__lt=now - timedelta(hours=settings.APFLOW.files.upload_hours))
    unused = Q(unused_since__lt=now - timedelta(days=days)) if days else Q(pk__in=())
    found: list[File] = []
    for which in (late, unused):
        free = File.objects.filter(which, ~Exists(FileReference.objects.filter(file=OuterRef("id"))))
        found += free.select_for_update(skip_locked=True)[: SWEPT - len(found)]
    return _remove(found) if found else Doomed()
