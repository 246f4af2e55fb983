"""Parameters and other arguments of nodes as plain JSON, and how two of them differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

AFFECTS_RESULTS = "affects_results"
"""Key in ``json_schema_extra`` of a parameter's field; false where no result depends on the parameter."""

_ABSENT = object()


def plain(value: Any) -> Any:
    """Turn a value into JSON, of a parameter block only what results depend on."""
    if isinstance(value, BaseModel):
        chosen = {name for name, field in type(value).model_fields.items() if _affects_results(field)}
        return {name: plain(getattr(value, name)) for name in sorted(chosen)}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return to_jsonable_python(value)


def fingerprint(value: Any) -> str:
    """Hash of a JSON value; the order of keys does not matter."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def differences(before: Any, now: Any, name: str) -> Iterator[str]:
    """Say value by value how two JSON values differ.

    >>> list(differences({"l2": 0.1, "seed": 0}, {"l2": 0.2, "seed": 0}, "source_training"))
    ['source_training.l2: 0.1 → 0.2']
    """
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*before, *now]):
            yield from differences(before.get(key, _ABSENT), now.get(key, _ABSENT), f"{name}.{key}")
    elif before is _ABSENT or now is _ABSENT or before != now:
        yield f"{name}: {_shown(before)} → {_shown(now)}"


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value, ensure_ascii=False)


def _affects_results(field: FieldInfo) -> bool:
    extra = field.json_schema_extra
    return not isinstance(extra, dict) or extra.get(AFFECTS_RESULTS) is not False
