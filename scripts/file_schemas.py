"""Writes the JSON Schemas of files with trees and flows, which the wheel has and the server publishes: aipartnerupflow/schemas/.

`make reference` runs it. With `--check` it writes nothing, and exits 1 if a file is not what the methods declare.
"""

import json
import os
import sys
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

import django

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "aipartnerupflow" / "schemas"
DRAFT = "https://json-schema.org/draft/2020-12/schema"
FIELDS_OF_FLOW = ("name", "description", "inputs_schema", "is_tool")
SCHEMA_KEY = {"type": "string", "description": "The address of this schema, for editors."}


def schemas() -> dict[str, Any]:
    """Return the schemas by the names of their files."""
    msgspec_json = import_module("msgspec").json
    new_task = import_module("a2a.methods.task_schemas").NewTask
    save_flow = import_module("a2a.methods.flows").SaveFlow
    _, definitions = msgspec_json.schema_components([new_task], ref_template="#/$defs/{name}")
    _, of_flow = msgspec_json.schema_components([save_flow], ref_template="#/$defs/{name}")
    task = definitions["NewTask"]
    task["properties"]["$schema"] = SCHEMA_KEY
    task["additionalProperties"] = False  # the server refuses unknown fields by name
    tasks = {
        "if": {"type": "array"},
        "then": {"type": "array", "items": {"$ref": "#/$defs/NewTask"}, "minItems": 1},
        "else": {"$ref": "#/$defs/NewTask"},
    }
    fields = {name: of_flow["SaveFlow"]["properties"][name] for name in FIELDS_OF_FLOW}
    return {
        "tree.json": _file("A tree: one task, a list of tasks, or an object with tasks.", {}, tasks, definitions),
        "flow.json": _file("A flow, or only its tasks.", fields, tasks, definitions),
    }


def _file(description: str, fields: dict[str, Any], tasks: Any, definitions: dict[str, Any]) -> Any:
    whole = {
        "type": "object",
        "properties": {"$schema": SCHEMA_KEY, **fields, "tasks": tasks},
        "required": ["tasks"],
        "additionalProperties": False,
    }
    has_tasks = {"type": "object", "required": ["tasks"]}
    return {
        "$schema": DRAFT,
        "description": description,
        "if": has_tasks,
        "then": whole,
        "else": tasks,
        "$defs": definitions,
    }


def main() -> int:
    sys.path.insert(0, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(AIPARTNERUPFLOW_DATA_DIR=folder, DJANGO_SETTINGS_MODULE="apflow_site.settings")
        django.setup()
        texts = {name: json.dumps(schema, indent=1, sort_keys=True) + "\n" for name, schema in schemas().items()}
    for name, text in texts.items():
        file = FOLDER / name
        if "--check" not in sys.argv[1:]:
            file.write_text(text)
        elif not file.exists() or file.read_text() != text:
            sys.stderr.write(f"{file.relative_to(ROOT)} is not what the methods declare. Run `make reference`.\n")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
