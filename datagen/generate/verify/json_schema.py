"""JSON answers against a JSON Schema: the part of draft 2020-12 that a structured answer needs.

A keyword that is not checked here makes the schema unusable, so that nothing passes unchecked.
Patterns are those of Rust's regex crate, through pydantic: linear in the text, whatever they say.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import StringConstraints, TypeAdapter, ValidationError
from pydantic_core import SchemaError

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "number": (int, float),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
_NOTES = {"title", "description", "default", "examples", "$comment", "$schema", "$id", "$defs"}
_NUMBERS = {
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "multipleOf",
}
_INNER = {"items", "additionalProperties", "not"}
_LISTS = {"anyOf", "oneOf", "allOf", "prefixItems"}
_OTHER = {"type", "enum", "const", "required", "properties", "pattern", "uniqueItems", "$ref"}
_DEEPEST = 64
_FENCED = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)


def read_json(answer: str) -> Any:
    """The one JSON value that an answer is, alone or in one fence; ValueError says what else it is.

    NaN, infinities and an object that names a key twice are no JSON.
    """
    text = answer.rpartition("</think>")[2].strip()
    fenced = _FENCED.match(text)
    return json.loads(
        fenced[1] if fenced else text, object_pairs_hook=_once, parse_constant=_no_constant
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("an object names a key twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def schema_problem(schema: Any, *, root: Any = None, depth: int = 0) -> str | None:
    """Why a schema cannot be used to check an answer, or None."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return None
    if not isinstance(schema, Mapping):
        return f"a schema is an object, not {type(schema).__name__}"
    if depth > _DEEPEST:
        return "nested too deeply"
    known = _NOTES | _NUMBERS | _INNER | _LISTS | _OTHER
    if unknown := sorted(set(schema) - known):
        return f"keyword {unknown[0]!r} is not checked here"
    if problem := _keyword_problem(schema, root):
        return problem
    inner = [schema[name] for name in _INNER & set(schema)]
    for name in _LISTS & set(schema):
        if not isinstance(schema[name], list) or not schema[name]:
            return f"{name!r} is a list of schemas"
        inner += schema[name]
    for name in {"properties", "$defs"} & set(schema):
        if not isinstance(schema[name], Mapping):
            return f"{name!r} names schemas"
        inner += schema[name].values()
    found = (schema_problem(one, root=root, depth=depth + 1) for one in inner)
    return next((one for one in found if one is not None), None)


def _keyword_problem(schema: Mapping[str, Any], root: Any) -> str | None:
    types = schema.get("type", [])
    for name in [types] if isinstance(types, str) else types:
        if name not in _TYPES:
            return f"no type {name!r}"
    for name in _NUMBERS & set(schema):
        if isinstance(schema[name], bool) or not isinstance(schema[name], int | float):
            return f"{name!r} is a number"
    if not isinstance(schema.get("required", []), list):
        return "'required' is a list"
    if not isinstance(schema.get("enum", [0]), list) or schema.get("enum") == []:
        return "'enum' is a list of values"
    try:
        if "pattern" in schema:
            _pattern(schema["pattern"])
        if "$ref" in schema:
            _resolve(schema["$ref"], root)
    except (SchemaError, KeyError, TypeError, ValueError) as error:
        return str(error).splitlines()[0][:120]
    return None


def _resolve(reference: Any, root: Any) -> Any:
    head, _, name = str(reference).rpartition("/")
    if head != "#/$defs" or name not in root.get("$defs", {}):
        raise ValueError(f"no '#/$defs' entry for {reference!r}")
    return root["$defs"][name]


@functools.lru_cache(maxsize=256)
def _pattern(pattern: str) -> TypeAdapter[str]:
    return TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])


def matches(pattern: str, text: str) -> bool:
    """Whether a pattern occurs in a text, in time linear in its length."""
    try:
        _pattern(pattern).validate_python(text)
    except ValidationError:
        return False
    return True


def value_problem(value: Any, schema: Any, root: Any, at: str = "$", depth: int = 0) -> str | None:
    """Why a value does not follow a usable schema, with the place; None where it does."""
    if isinstance(schema, bool):
        return None if schema else f"{at}: nothing may stand here"
    if depth > _DEEPEST:
        return f"{at}: nested too deeply"
    checks = (_type_problem, _size_problem, _array_problem, _object_problem, _joined_problem)
    found = (check(value, schema, root, at, depth) for check in checks)
    return next((one for one in found if one is not None), None)


def _is(value: Any, name: str) -> bool:
    if name == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _same(one: Any, other: Any) -> bool:
    """JSON equality: 1 is 1.0, but true is not 1."""
    return json.dumps(_even(one), sort_keys=True) == json.dumps(_even(other), sort_keys=True)


def _even(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_even(one) for one in value]
    return {k: _even(v) for k, v in value.items()} if isinstance(value, dict) else value


def _type_problem(value: Any, schema: Any, root: Any, at: str, depth: int) -> str | None:
    types = schema.get("type")
    if types is not None:
        names = [types] if isinstance(types, str) else types
        if not any(_is(value, name) for name in names):
            return f"{at}: no {' or '.join(names)}"
    if "const" in schema and not _same(value, schema["const"]):
        return f"{at}: not {json.dumps(schema['const'])[:40]}"
    if "enum" in schema and not any(_same(value, one) for one in schema["enum"]):
        return f"{at}: none of the values listed"
    return None


def _size_problem(value: Any, schema: Any, root: Any, at: str, depth: int) -> str | None:
    if isinstance(value, str):
        if not schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value)):
            return f"{at}: {len(value)} characters"
        if "pattern" in schema and not matches(schema["pattern"], value):
            return f"{at}: does not match {schema['pattern']!r}"
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = schema.get("minimum", value), schema.get("maximum", value)
        above = schema.get("exclusiveMinimum", value - 1)
        below = schema.get("exclusiveMaximum", value + 1)
        if not (low <= value <= high and above < value < below):
            return f"{at}: {value} is out of range"
        step = schema.get("multipleOf")
        if step and abs(value / step - round(value / step)) > 1e-9:
            return f"{at}: {value} is no multiple of {step}"
    return None


def _array_problem(value: Any, schema: Any, root: Any, at: str, depth: int) -> str | None:
    if not isinstance(value, list):
        return None
    if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
        return f"{at}: {len(value)} items"
    if schema.get("uniqueItems"):
        shown = [json.dumps(_even(one), sort_keys=True) for one in value]
        if len(set(shown)) < len(shown):
            return f"{at}: an item stands twice"
    first = schema.get("prefixItems", [])
    rest = schema.get("items", True)
    for number, one in enumerate(value):
        inner = first[number] if number < len(first) else rest
        if problem := value_problem(one, inner, root, f"{at}[{number}]", depth + 1):
            return problem
    return None


def _object_problem(value: Any, schema: Any, root: Any, at: str, depth: int) -> str | None:
    if not isinstance(value, dict):
        return None
    for name in schema.get("required", []):
        if name not in value:
            return f"{at}: no {name!r}"
    most = schema.get("maxProperties", len(value))
    if not schema.get("minProperties", 0) <= len(value) <= most:
        return f"{at}: {len(value)} properties"
    properties, rest = schema.get("properties", {}), schema.get("additionalProperties", True)
    for name, one in value.items():
        inner = properties.get(name, rest)
        if problem := value_problem(one, inner, root, f"{at}.{name}", depth + 1):
            return problem
    return None


def _joined_problem(value: Any, schema: Any, root: Any, at: str, depth: int) -> str | None:
    def fits(inner: Any) -> str | None:
        return value_problem(value, inner, root, at, depth + 1)

    if "$ref" in schema and (problem := fits(_resolve(schema["$ref"], root))):
        return problem
    for inner in schema.get("allOf", []):
        if problem := fits(inner):
            return problem
    if "anyOf" in schema and all(fits(inner) for inner in schema["anyOf"]):
        return f"{at}: fits none of 'anyOf'"
    if "oneOf" in schema and sum(fits(inner) is None for inner in schema["oneOf"]) != 1:
        return f"{at}: fits not exactly one of 'oneOf'"
    if "not" in schema and fits(schema["not"]) is None:
        return f"{at}: fits what it must not"
    return None


def json_problem(answer: str, schema: Any) -> str | None:
    """Why an answer is not the JSON that a usable schema asks for, or None where it is."""
    try:
        value = read_json(answer)
    except (ValueError, RecursionError) as error:
        return f"no JSON: {error}"[:160]
    return value_problem(value, schema, schema)
