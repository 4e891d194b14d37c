"""Makes the examples of the OpenAPI document from its schemas, so that each has one and none becomes outdated.

A value comes from the schema if it has one (`examples`, a constant, the first of several), else from `_WORDS` by the
name of the property, else from its type. Optional properties are left out, unless `_WORDS` has them.
"""

from typing import Any, Final

_ID: Final = "0199e0a4-6c1d-7c3e-9a51-3f4c5d6e7f80"
_WORDS: Final[dict[str, Any]] = {
    "processing_id": _ID,  # of the three ids for the lawful basis of a model call, only this one is in the example
    "title": "Sunday call with Ann's daughter",
    "description": "The weekly call, by video",
    "display_name": "Ann Smith",
    "name": "Elm House",
    "slug": "elm-house",
    "email": "ann.smith@elm-house.example",
    "purpose": "To notice early when somebody is being harmed",
    "special_category_condition": "DPA 2018 Sch. 1 para. 18",
    "reason": "Two carers confirm what was said; the family has been rung.",
    "speaker": "S1",
    "text": "She has bruises on both arms.",
    "word": "bruises",
    "channel": "call",
    "language": "en",
    "media_type": "audio/wav",
    "source": "call.flac",
    "model": "safeguarding",
    "model_version": "2.1.0",
    "action": "session.created",
    "object_type": "session",
    "stage": "transcription",
    "ticket": f"{_ID}.{_ID}.kT4v…",
}
_OF_FORMAT: Final = {
    "uuid": _ID,
    "date-time": "2026-03-01T14:00:00Z",
    "date": "2026-03-01",
    "binary": "…",
    "ipvanyaddress": "192.0.2.7",
}


def example_of(schema: dict[str, Any], schemas: dict[str, Any], name: str = "") -> Any:
    """A value that is valid for the JSON schema; `schemas` are the document's components, `name` is the property's."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas, name)
    said = [schema[key] for key in ("example", "const") if key in schema]
    said += [value for key in ("examples", "enum") for value in schema.get(key, ())[:1]]
    if said:
        return said[0]
    kinds = [kind for key in ("anyOf", "oneOf") for kind in schema.get(key, ()) if kind.get("type") != "null"]
    if kinds:
        return example_of(kinds[0], schemas, name)
    if schema.get("type") == "object":
        return _object(schema, schemas)
    if schema.get("type") == "array":
        return _array(schema, schemas, name)
    return _scalar(schema, name)


def _scalar(schema: dict[str, Any], name: str) -> Any:
    if schema.get("type") == "string":
        return _OF_FORMAT.get(schema.get("format", "")) or _WORDS.get(name, "text")
    if schema.get("type") == "integer":
        return schema.get("minimum", schema.get("exclusiveMinimum", 0) + 1)
    return {"number": 0.5, "boolean": False, "null": None}.get(schema.get("type", ""), _WORDS.get(name, {}))


def _object(schema: dict[str, Any], schemas: dict[str, Any]) -> dict[str, Any]:
    required = schema.get("required", ())
    return {
        name: example_of(part, schemas, name)
        for name, part in schema.get("properties", {}).items()
        if name in required or name in _WORDS
    }


def _array(schema: dict[str, Any], schemas: dict[str, Any], name: str) -> list[Any]:
    if "prefixItems" in schema:
        return [example_of(part, schemas, name) for part in schema["prefixItems"]]
    return [example_of(schema.get("items", {}), schemas, name)] if "items" in schema else []
