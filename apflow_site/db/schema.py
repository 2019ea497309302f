"""The version of the database's schema, compared with the migrations of the installed version."""

from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules

from django.apps import apps
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder

Migration = tuple[str, str]
"""The label of an app, and the name of the migration."""


class SchemaTooNew(Exception):
    """A newer version has migrated the database. This version would write rows that the newer one does not expect."""

    def __init__(self, newer: list[Migration]) -> None:
        names = ", ".join(".".join(each) for each in newer[:3])
        self.message = f"The database was migrated by a newer version of aipartnerupflow ({names})."
        self.fix = "Install that version or a newer one, or restore a backup from before the upgrade."
        super().__init__(f"{self.message}\n{self.fix}")


def missing() -> list[Migration]:
    """Return the migrations that have not been applied, in the order of their names."""
    return sorted(_known() - _applied())


def newer() -> list[Migration]:
    """Return the applied migrations of our apps that this version does not have."""
    labels = {config.label for config in apps.get_app_configs()}
    return sorted(each for each in _applied() - _known() if each[0] in labels)


def require_known() -> None:
    """Raise SchemaTooNew if a newer version has migrated the database."""
    if found := newer():
        raise SchemaTooNew(found)


def plan() -> list[tuple[str, list[str]]]:
    """Return each missing migration in order, and what it does."""
    executor = MigrationExecutor(connection)
    steps = executor.migration_plan(executor.loader.graph.leaf_nodes())
    return [(str(migration), [each.describe() for each in migration.operations]) for migration, _ in steps]


def _applied() -> set[Migration]:
    return set(MigrationRecorder(connection).applied_migrations())


@cache
def _known() -> frozenset[Migration]:
    """Return the migrations by the names of their files: importing a hundred modules takes longer than the whole comparison."""
    return frozenset((config.label, name) for config in apps.get_app_configs() for name in _names(config.label))


def _names(label: str) -> list[str]:
    package, _ = MigrationLoader.migrations_module(label)
    if package is None or find_spec(package) is None:
        return []
    found = iter_modules(import_module(package).__path__)
    return [name for _, name, is_package in found if not is_package and name[0] not in "_~"]
