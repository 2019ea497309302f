"""Migrations of indexes that do not lock out writers on PostgreSQL."""

from typing import Any

from django.db.migrations.operations import AddIndex, RemoveIndex


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
