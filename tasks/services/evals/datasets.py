"""Data sets: save rows as a version, find, list and delete."""

import hashlib
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Final

import orjson
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q

from accounts import audit
from accounts.audit import Action
from accounts.callers import Caller
from apflow_site.db.beforehand import beforehand
from apflow_site.db.turns import has_room
from tasks.models import Dataset, DatasetVersion, FlowVersion
from tasks.rules.exceptions import DatasetNotFound, InvalidParams, LimitReached
from tasks.rules.flows import filled_inputs, unknown_input
from tasks.rules.specs import LISTED
from tasks.rules.strict_json import Json
from tasks.rules.tags import MOST, RULE, TAG
from tasks.services import flows
from tasks.services.files.references import DATASET, named_in, refer, release
from tasks.services.secrets.write_only import masked
from tasks.services.trees.queries import NOT_A_CURSOR
from tasks.storage import loads

Problem = tuple[str, str]
IS_SECRET: Final = (
    "has a value that the schema of the flow marks as `writeOnly`, and a data set keeps its rows as they are. "
    "Leave it out, and let the flow use a named secret"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A version of a data set. `is_new` is False if the newest version had the same rows. `replaced` rows had the inputs of another one."""

    dataset: Dataset
    version: DatasetVersion
    is_new: bool
    replaced: int


def save_dataset(
    *, caller: Caller, name: str, rows: Sequence[Json], appends: bool = False, flow: str | None = None
) -> Saved:
    """Save rows `{inputs, expected?, tags?, source?}` as the next version of the caller's data set, after those of the newest one if it `appends`.

    A row with the inputs of an earlier one takes its place. `flow` is the name of the flow whose inputs they are; None leaves that as
    it is, and "" means none. Raises InvalidParams, FlowNotFound or LimitReached; then nothing is stored.
    """
    flows.check_name(name)
    if problems := _problems_of_tags(rows):
        raise InvalidParams(problems)
    if flow is None:
        flow = Dataset.objects.filter(user_id=caller.user_id, name=name).values_list("flow", flat=True).first() or ""
    if flow:
        _, version = flows.get_version(caller=caller, name=flow, user_id=caller.user_id)
        check = partial(problems_of_rows, version, rows)
        if problems := beforehand("rows", check, version.id, list(rows)):
            raise InvalidParams(problems)
    return _store(caller.user_id, name, rows, appends=appends, flow=flow)


def get_dataset(*, caller: Caller, name: str, user_id: str | None = None) -> Dataset:
    """Return a data set of the caller or, for administrators, of another user. Raises DatasetNotFound."""
    known = Dataset.objects.for_caller(caller).filter(user_id=user_id or caller.user_id)
    found = known.filter(name=name).first()
    if found is None:
        raise DatasetNotFound(name[:100], close_matches=known.names_like(name))
    return found


def get_version(
    *, caller: Caller, name: str, version: int | None = None, user_id: str | None = None
) -> tuple[Dataset, DatasetVersion]:
    """Return a data set and one of its versions, by default the newest. Raises DatasetNotFound or ResponseTooLarge."""
    dataset = get_dataset(caller=caller, name=name, user_id=user_id)
    wanted = DatasetVersion.objects.filter(dataset_id=dataset.id, number=version or dataset.version)
    loads.spend_on(wanted, "rows")
    found = wanted.first()
    if found is None:
        raise DatasetNotFound(name, version=version or dataset.version, newest=dataset.version)
    return dataset, found


def list_datasets(
    *, caller: Caller, user_id: str | None = None, limit: int = 100, cursor: str | None = None
) -> tuple[list[DatasetVersion], str | None]:
    """Return the newest versions, without their rows, of a page of data sets by name, and the cursor of the next page (None at the end).

    Raises InvalidParams for an invalid cursor.
    """
    sets = Dataset.objects.for_caller(caller)
    sets = sets if user_id is None else sets.filter(user_id=user_id)
    if cursor:
        try:
            name, owner = orjson.loads(urlsafe_b64decode(cursor.encode()))
        except (ValueError, TypeError):
            raise InvalidParams([NOT_A_CURSOR]) from None
        if not (isinstance(name, str) and isinstance(owner, str)) or "\0" in f"{name}{owner}":
            raise InvalidParams([NOT_A_CURSOR])
        sets = sets.filter(Q(name__gt=name) | Q(name=name, user_id__gt=owner), name__gte=name)
    ids = list(sets.order_by("name", "user_id").values_list("id", flat=True)[: limit + 1])
    newest = DatasetVersion.objects.filter(dataset_id__in=ids[:limit], number=F("dataset__version"))
    shown = list(newest.defer("rows").select_related("dataset").order_by("dataset__name", "dataset__user_id"))
    if len(ids) <= limit or not shown:
        return shown, None
    last = shown[-1].dataset
    return shown, urlsafe_b64encode(orjson.dumps([last.name, last.user_id])).decode()


@transaction.atomic
def delete_dataset(*, caller: Caller, name: str, user_id: str | None = None) -> int:
    """Delete a data set with its versions, and return how many. Experiments keep the cases that they have run. Raises DatasetNotFound."""
    dataset = get_dataset(caller=caller, name=name, user_id=user_id)
    if not Dataset.objects.filter(id=dataset.id).select_for_update():  # a save in between would leave a version behind
        raise DatasetNotFound(name)
    versions, _ = DatasetVersion.objects.filter(dataset_id=dataset.id).delete()
    release([f"{DATASET}{dataset.id}"])
    Dataset.objects.filter(id=dataset.id).delete()
    audit.record(
        Action.DATASET_DELETED, actor=caller.user_id, target=dataset.name, owner=dataset.user_id, versions=versions
    )
    return versions


def changes(before: Sequence[Json], after: Sequence[Json]) -> list[tuple[Json | None, Json | None]]:
    """Return the rows in which two versions differ, each as it was and as it is: None where one of them has no row with its inputs."""
    old, new = ({key_of(row["inputs"]): row for row in rows} for rows in (before, after))
    changed = [(old.get(key), row) for key, row in new.items() if old.get(key) != row]
    return [*changed, *((row, None) for key, row in old.items() if key not in new)]


def problems_of_rows(version: FlowVersion, rows: Sequence[Json]) -> list[Problem]:
    """Return what does not fit the inputs of a version of a flow, by row (from 0) and field, at most LISTED problems."""
    schema = version.inputs_schema
    known = flows.names_taken(version) if schema is None else None
    problems: list[Problem] = []
    for number, row in enumerate(rows):
        given = row["inputs"]
        _, found = filled_inputs(schema, given)
        if known is not None:
            found += [(f"inputs.{name[:100]}", unknown_input(name, known)) for name in given if name not in known]
        if not found and masked(given, schema) != given:
            found.append(("inputs", IS_SECRET))
        problems += [(f"rows[{number}].{place}", reason) for place, reason in found]
        if len(problems) >= LISTED:
            break
    return problems[:LISTED]


def _problems_of_tags(rows: Sequence[Json]) -> list[Problem]:
    problems = []
    for number, row in enumerate(rows):
        tags = row.get("tags", ())
        if len(tags) > MOST:
            problems.append((f"rows[{number}].tags", f"has more than {MOST} tags"))
        problems += [
            (f"rows[{number}].tags[{place}]", RULE) for place, tag in enumerate(tags) if not TAG.fullmatch(tag)
        ]
    return problems[:LISTED]


@transaction.atomic
def _store(user_id: str, name: str, rows: Sequence[Json], *, appends: bool, flow: str) -> Saved:
    """Store a version, unless the newest one has the same rows. Saves of one data set wait for each other."""
    now, limits = datetime.now(UTC), settings.APFLOW.limits
    own = Dataset.objects.filter(user_id=user_id)
    dataset = own.filter(name=name).select_for_update().first()
    if dataset is None:
        has_one_more = has_room(own.exclude(name=name), of=user_id, most=limits.datasets)
        dataset = own.filter(name=name).select_for_update().first()  # another save may have been first
        if dataset is None and not has_one_more:
            raise LimitReached(
                f"You have {limits.datasets:,} data sets, which is the limit (limits.datasets). Delete one of them first."
            )
        dataset = dataset or Dataset.objects.create(user_id=user_id, name=name, created_at=now, updated_at=now)
    versions = DatasetVersion.objects.filter(dataset_id=dataset.id)
    newest = versions.filter(number=dataset.version).first()
    given = [*(newest.rows if newest is not None and appends else ()), *rows]
    merged = [*{key_of(row["inputs"]): row for row in given}.values()]
    if (size := len(orjson.dumps(merged))) > limits.dataset_bytes:
        reason = f"have {size:,} bytes as JSON, and at most {limits.dataset_bytes:,} are allowed (limits.dataset_bytes)"
        raise InvalidParams([("rows", reason)])
    saved = partial(Saved, dataset=dataset, replaced=len(given) - len(merged))
    if newest is not None and newest.rows == merged and dataset.flow == flow:
        return saved(version=newest, is_new=False)
    dataset.version, dataset.flow, dataset.updated_at = dataset.version + 1, flow, now
    version = DatasetVersion.objects.create(
        dataset=dataset, number=dataset.version, rows=merged, count=len(merged), created_at=now
    )
    dataset.save(update_fields=["version", "flow", "updated_at"])
    refer(f"{DATASET}{dataset.id}", named_in(merged), owner=user_id)
    versions.filter(number__lte=dataset.version - limits.dataset_versions).delete()
    audit.record(Action.DATASET_SAVED, actor=user_id, target=name, version=dataset.version)
    return saved(version=version, is_new=True)


def key_of(inputs: Json) -> bytes:
    """Return by which rows with the same inputs are known."""
    return hashlib.sha256(orjson.dumps(inputs, option=orjson.OPT_SORT_KEYS)).digest()
