"""The JSON Schema of a configuration file, made from the model, for editors that complete and check YAML.

`python -m config.schema` writes it beside this module. It describes what is written in the file, so
durations and sizes are strings, and a `${VAR}` may stand wherever one value stands.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from config.describe import in_yaml, sections
from config.document import read
from config.model import Settings

SCHEMA_FILE = Path(__file__).with_name("crossfade.schema.json")
_REFERENCE = {"type": "string", "pattern": r"\$\{", "description": "taken from the environment"}


def schema() -> dict[str, Any]:
    """The schema as a JSON object (draft 2020-12)."""
    made = Settings.model_json_schema()
    for section in sections():
        described = made if section.model is Settings else made["$defs"][section.model.__name__]
        _describe(described, section.model)
    definitions = {**made.pop("$defs"), "Environment": _REFERENCE}
    made["required"].remove("salt")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Crossfade configuration",
        "description": "What `proxyctl run` reads.",
        **{key: made[key] for key in ("type", "additionalProperties", "required", "properties")},
        "oneOf": [{"required": ["salt"]}, {"required": ["salt_file"]}],
        "$defs": dict(sorted(definitions.items())),
    }


def schema_text() -> str:
    """The schema as it is kept in the file."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def _describe(described: dict[str, Any], model: type[BaseModel]) -> None:
    """Say defaults and examples of one mapping's keys as they are written in YAML. Idempotent."""
    described.pop("title", None)
    for name, field in model.model_fields.items():
        prop = described["properties"][name]
        prop.pop("title", None)
        if "default" in prop:
            default = in_yaml(field.get_default(call_default_factory=True), field)
            prop.pop("default")
            if default:
                prop["default"] = _value(default)
        if field.examples:
            prop["examples"] = [_value(example) for example in field.examples]
        if "patternProperties" in prop:
            prop["additionalProperties"] = False
        described["properties"][name] = _with_reference(prop)


def _value(text: str) -> Any:
    return read(f"${text}" if text.startswith("${") else text, {}).data


def _with_reference(prop: dict[str, Any]) -> dict[str, Any]:
    """The same, or a `${VAR}`, where the value's own form would rule that out."""
    if prop.get("type") == "array":
        return {**prop, "items": _with_reference(prop["items"])}
    notes: dict[str, Any] = {key: prop[key] for key in ("description", "default", "examples") if key in prop}
    form = {key: value for key, value in prop.items() if key not in notes}
    parts = form.get("anyOf", [form])
    reference = {"$ref": "#/$defs/Environment"}
    if reference in parts or not any(_rules_out_reference(part) for part in parts):
        return prop
    return {**notes, "anyOf": [*parts, reference]}


def _rules_out_reference(form: dict[str, Any]) -> bool:
    return form.get("type") in ("integer", "number", "boolean") or any(
        key in form for key in ("pattern", "enum", "maxLength")
    )


if __name__ == "__main__":
    SCHEMA_FILE.write_text(schema_text(), encoding="utf-8")
