"""The migrations of the installed version."""

from django.db.migrations.loader import MigrationLoader

from apflow_site.db import schema


def test_the_migrations_that_are_known_are_those_that_django_finds() -> None:
    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    assert schema._known() == set(loader.disk_migrations)
