"""Writes `trainyard/client/models.py` from the API's description: what its answers hold.

Run by `make client`. The generator is datamodel-code-generator; the description is prepared for it here, so that
the names and types are such as a person would write.

    python -m generation.client_models [web/openapi.json] [trainyard/client/models.py]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from datamodel_code_generator import InputFileType, LiteralType, PythonVersion, generate
from datamodel_code_generator.enums import DataModelType, OpenAPIScope
from datamodel_code_generator.format import Formatter

ROOT = Path(__file__).parent.parent
DESCRIPTION, MODELS = ROOT / "web" / "openapi.json", ROOT / "trainyard" / "client" / "models.py"
HEADER = '"""What the answers of the API hold. Written by `make client` from its description; not to be edited."""\n'
NAMES = {
    "PredictRead": "Classification",
    "PredictManyRead": "Classifications",
    "MoveRead": "AliasMove",
    "WarningRead": "PreviewWarning",
}
DROPPED = frozenset(
    {"minLength", "maxLength", "minimum", "maximum", "pattern", "exclusiveMinimum", "exclusiveMaximum", "readOnly"}
)
#: Routes that have other clients: the Open Inference Protocol, and the API of another product.
LEFT_OUT = ("/v2", "/v1")
Json = dict[str, Any]


def write_models(document: Json) -> str:
    """Return the module for an API's description."""
    schemas = document["components"]["schemas"]
    wanted = _reachable(schemas, _answers(document))
    simple = {
        _rename(name): _simplify(schemas[name], schemas) for name in sorted(wanted) if not _is_left_out(schemas, name)
    }
    target = ROOT / ".models-draft.py"
    try:
        generate(
            json.dumps(
                {
                    "openapi": "3.1.0",
                    "info": {"title": "", "version": ""},
                    "paths": {},
                    "components": {"schemas": simple},
                }
            ),
            input_file_type=InputFileType.OpenAPI,
            openapi_scopes=[OpenAPIScope.Schemas],
            output=target,
            output_model_type=DataModelType.PydanticV2BaseModel,
            target_python_version=PythonVersion.PY_311,
            base_class="trainyard.client.answers.Answer",
            enum_field_as_literal=LiteralType.All,
            use_standard_collections=True,
            use_union_operator=True,
            use_schema_description=True,
            use_field_description=True,
            use_default_kwarg=True,
            formatters=[Formatter.RUFF_CHECK, Formatter.RUFF_FORMAT],
            disable_timestamp=True,
            custom_file_header=HEADER,
        )
        return target.read_text("utf-8")
    finally:
        target.unlink(missing_ok=True)


def _answers(document: Json) -> set[str]:
    """Return the names of the schemas of all answers that are no refusals."""
    found: set[str] = set()
    for path, methods in document["paths"].items():
        if path.startswith(LEFT_OUT):
            continue
        for method in methods.values():
            for status, answer in method["responses"].items():
                if status.startswith("2"):
                    found |= _references(answer)
    return found


def _reachable(schemas: Json, names: set[str]) -> set[str]:
    known: set[str] = set()
    while names - known:
        name = (names - known).pop()
        known.add(name)
        names = names | _references(schemas[name])
    return known


def _references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"].rpartition("/")[2]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(_references(each) for each in value.values()))
    if isinstance(value, list):
        return set().union(*(_references(each) for each in value))
    return set()


def _is_left_out(schemas: Json, name: str) -> bool:
    """Whether a schema gets no class: a page, or a closed set of texts, which stands where it is used."""
    return name.startswith("ListRead_") or schemas[name].get("type") != "object"


def _rename(name: str) -> str:
    return NAMES.get(name, name.removesuffix("Read"))


def _simplify(value: Any, schemas: Json) -> Any:
    """Return a schema without titles and bounds, which answers keep anyway; closed sets stand where they are used."""
    if isinstance(value, list):
        return [_simplify(each, schemas) for each in value]
    if not isinstance(value, dict):
        return value
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        if schemas[name].get("type") != "object":
            return {"description": value.get("description", "")} | _simplify(schemas[name], schemas)
        return value | {"$ref": f"#/components/schemas/{_rename(name)}"}
    kept = {key: it for key, it in value.items() if key not in DROPPED}
    if isinstance(kept.get("title"), str):  # not a field of that name
        del kept["title"]
    if kept.get("additionalProperties") is False:
        del kept["additionalProperties"]
    return {key: _simplify(it, schemas) for key, it in kept.items()}


if __name__ == "__main__":
    source, output = [Path(text) for text in sys.argv[1:]] or [DESCRIPTION, MODELS]
    output.write_text(write_models(json.loads(source.read_text("utf-8"))), "utf-8")
