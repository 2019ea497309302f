"""The schema of the database: its version, compared with the installed migrations, and indexes that lock out no writers."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from typing import Any

from django.apps import apps
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations import AddIndex, RemoveIndex
from django.db.migrations.recorder import MigrationRecorder

Migration = tuple[str, str]
"""The label of an app, and the name of the migration."""


class SchemaMismatch(Exception):
    """A database that this version must not use: a newer version has migrated it, or it is too old to be migrated."""

    def __init__(self, message: str, *, fix: str) -> None:
        self.message = message
        self.fix = fix
        super().__init__(f"{message}\n{fix}")


def missing() -> list[Migration]:
    """Return the migrations that have not been applied, in the order of their names."""
    return sorted(_files() - _applied())


def require_known() -> None:
    """Raise SchemaMismatch if a newer version has migrated the database, or if this version cannot migrate it.

    A newer version expects rows that this one does not write. A database whose migrations stop amid those that
    a squashed one replaces can only be migrated by the checkout that still has them.
    """
    applied, replaced = _applied(), _replaced()
    labels = {config.label for config in apps.get_app_configs()}
    known = _files().union(*replaced.values())
    if newer := sorted(each for each in applied - known if each[0] in labels):
        raise SchemaMismatch(
            f"The database was migrated by a newer version of aipartnerupflow ({_names(newer[:3])}).",
            fix="Install that version or a newer one, or restore a backup from before the upgrade.",
        )
    for earlier in replaced.values():
        if absent := sorted(earlier - applied) if applied & earlier else []:
            raise SchemaMismatch(
                f"The database is of a checkout from before 1.0.0 and lacks migrations ({_names(absent[:3])}) that "
                "this version no longer has.",
                fix="Migrate it with the last checkout that has them: docs/support.md, under “Upgrade to 1.0.0”.",
            )


def plan() -> list[tuple[str, list[str]]]:
    """Return each missing migration in order, and what it does."""
    executor = MigrationExecutor(connection)
    steps = executor.migration_plan(executor.loader.graph.leaf_nodes())
    pending = [(str(migration), [each.describe() for each in migration.operations]) for migration, _ in steps]
    # Django counts a squashed migration as applied if those that it replaces are, and `migrate` records it.
    recorded = sorted(set(missing()) & executor.loader.applied_migrations.keys())
    return [
        (_names([each]), ["Record that the migrations that it replaces are applied"]) for each in recorded
    ] + pending


def _names(migrations: list[Migration]) -> str:
    return ", ".join(".".join(each) for each in migrations)


def _applied() -> set[Migration]:
    return set(MigrationRecorder(connection).applied_migrations())


@cache
def _files() -> frozenset[Migration]:
    """Return the migrations by the names of their files: importing a hundred modules takes longer than the whole comparison."""
    return frozenset(
        (config.label, name)
        for config in apps.get_app_configs()
        if (package := _package(config.label))
        for _, name, is_package in iter_modules(import_module(package).__path__)
        if not is_package and name[0] not in "_~"
    )


@cache
def _replaced() -> dict[Migration, frozenset[Migration]]:
    """Return each squashed migration, and the migrations that it replaces, whose files are gone."""
    return {
        (label, name): frozenset(import_module(f"{_package(label)}.{name}").Migration.replaces)
        for label, name in _files()
        if "_squashed_" in name
    }


def _package(label: str) -> str | None:
    package, _ = MigrationLoader.migrations_module(label)
    return package if package is not None and find_spec(package) else None


class AddIndexBeside(AddIndex):
    """Create an index while other sessions write the table. Only in a migration that is not atomic.

    An attempt that failed leaves an invalid index on PostgreSQL, which is replaced. SQLite creates an index of a
    million rows in a second, and has no other way.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        model = to_state.apps.get_model(app_label, self.model_name)
        if not self.allow_migrate_model(schema_editor.connection.alias, model):
            return
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{self.index.name}"')
            schema_editor.execute(self.index.create_sql(model, schema_editor, concurrently=True), params=None)
        else:
            schema_editor.add_index(model, self.index)


class RemoveIndexBeside(RemoveIndex):
    """Drop an index while other sessions use the table. Only in a migration that is not atomic."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            schema_editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{self.name}"')
        else:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
