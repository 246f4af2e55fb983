"""The check of all parameter blocks at once: what is wrong, in the names that the user wrote."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from dwp_kedro.parameters.environment import EnvironmentParameters

Path = tuple[str | int, ...]
_MOST_CHARACTERS = 70
_TYPES = {
    "int_": "be a whole number",
    "float_": "be a number",
    "bool_": "be true or false",
    "string_type": "be text, in quotes where it looks like a number",
    "path_": "be a path",
    "list_type": "be a list",
    "tuple_type": "be a list",
    "dict_": "be a block of names and values",
    "model_": "be a block of names and values",
}
"""Starts of pydantic's names of errors about types."""
_FIELD = re.compile(r"^([\w.]+): ")
"""What the messages of models' own validators begin with."""


@dataclass(frozen=True)
class ParameterProblem:
    """One wrong value; ``path`` are the keys and indices that lead to it, ``file`` its file if that is known."""

    path: Path
    text: str
    file: str = ""

    @property
    def name(self) -> str:
        """The parameter as it is written: ``grid.n_train[0]``."""
        return dotted(self.path)


class ParameterError(ValueError):
    """Parameters or files of them that cannot be used; the message names them, and says what to do."""


def list_problems(problems: Sequence[ParameterProblem], place: Callable[[Path], str] = lambda path: "") -> str:
    """Return one message about all problems; ``place`` says in which file a parameter stands."""
    count = "A parameter is wrong" if len(problems) == 1 else f"{len(problems)} parameters are wrong"
    lines = [f"{count}; nothing was run."]
    for problem in problems:
        where = problem.file or place(problem.path)
        lines.append(f"  {problem.name}{f' in {where}' if where else ''}: {problem.text}")
    return "\n".join(lines)


def find_problems(parameters: Mapping[str, Any], ignored: Sequence[str] = ()) -> list[ParameterProblem]:
    """Validate all blocks; return one problem per wrong value.

    Args:
        parameters: of an environment, as Kedro merged them.
        ignored: top-level names that are not looked at, such as ``data_root`` from ``--params``; as are those that
            begin with ``_``, which hold YAML anchors.
    """
    known = {name: value for name, value in parameters.items() if name not in ignored and name[:1] != "_"}
    problems = []
    try:
        EnvironmentParameters.model_validate(known)
    except ValidationError as error:
        problems = _one_per_value(known, error)
    told = {problem.path for problem in problems}
    return problems + [problem for problem in _find_truth_values(known) if problem.path not in told]


def dotted(path: Path) -> str:
    """Join keys and indices.

    >>> dotted(("grid", "n_train", 0))
    'grid.n_train[0]'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return text.removeprefix(".")


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """Return a question that names the nearest of the known names, or those there are if none is near.

    >>> did_you_mean("n_trian", ["n_train", "n_test"])
    'did you mean n_train?'
    """
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"


def has(value: Any, part: str | int) -> bool:
    """Say whether a table has this key, or a list this index."""
    if isinstance(value, Mapping):
        return part in value
    return isinstance(value, list | tuple) and isinstance(part, int) and part < len(value)


def _find_truth_values(parameters: Mapping[str, Any]) -> Iterator[ParameterProblem]:
    """Yield true and false where none belong, which pydantic takes for the numbers 1 and 0."""
    for path, value in _leaves(parameters):
        field = _field(parameters, path) if isinstance(value, bool) else None
        if field is not None and bool not in _branches(field.annotation):
            text = f"given {_shown(value)}; it should not be true or false (nor yes, no, on, off)."
            yield ParameterProblem(path, f"{text} {field.description}")


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield all values that are neither tables nor lists, with the keys and indices that lead to them."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _leaves(inner, (*path, index))
    else:
        yield path, value


def _one_per_value(parameters: Mapping[str, Any], error: ValidationError) -> list[ParameterProblem]:
    """Gather what the branches of a union say of one value; of its branches, those that go deepest are meant."""
    found: dict[Path, list[Any]] = {}
    for details in error.errors():
        found.setdefault(_path(parameters, details), []).append(details)
    deepest = [path for path in found if not any(other[: len(path)] == path != other for other in found)]
    # What is missing and what is misspelt may be one.
    misspelt = {
        (*path[:-1], meant)
        for path in deepest
        if found[path][0]["type"] == "extra_forbidden"
        for meant in get_close_matches(str(path[-1]), _names_at(parameters, path[:-1]), n=1)
    }
    return [_problem(parameters, path, found[path]) for path in deepest if path not in misspelt]


def _path(parameters: Mapping[str, Any], details: Any) -> Path:
    """Return the error's location without the names of union branches, which nobody wrote."""
    location, kind = details["loc"], details["type"]
    path: list[str | int] = []
    value: Any = parameters
    for part in location:
        if has(value, part):
            value = value[part]
            path.append(part)
    if kind == "missing" and isinstance(location[-1], str):
        path.append(location[-1])
    elif kind.startswith("union_tag"):
        path.append(details["ctx"]["discriminator"].strip("'"))
    elif kind == "value_error" and (field := _FIELD.match(str(details["ctx"]["error"]))):
        path += field[1].split(".")
    return tuple(path)


def _problem(parameters: Mapping[str, Any], path: Path, errors: list[Any]) -> ParameterProblem:
    first = errors[0]
    if first["type"] == "extra_forbidden":
        return ParameterProblem(path, f"there is no such parameter; {_nearest(parameters, path)}")
    field = _field(parameters, path)
    purpose = f" {field.description}" if field is not None and field.description else ""
    if first["type"] == "missing" and isinstance(first["loc"][-1], int):
        return ParameterProblem(path, f"given {_shown(first['input'])}, which are too few.{purpose}")
    if first["type"] in ("missing", "union_tag_not_found"):
        return ParameterProblem(path, f"is missing.{purpose}")
    if first["type"] == "value_error":
        text = _FIELD.sub("", str(first["ctx"]["error"]))
        return ParameterProblem(path, f"{text}.")
    if first["type"] == "union_tag_invalid":
        given, allowed = first["ctx"]["tag"], f"be one of {first['ctx']['expected_tags']}"
    else:
        given, allowed = first["input"], ", or ".join(dict.fromkeys(map(_requirement, errors)))
    names = re.findall(r"'([^']+)'", allowed)
    near = get_close_matches(given, names, n=1) if isinstance(given, str) else []
    question = f" Did you mean {near[0]}?" if near else ""
    return ParameterProblem(path, f"given {_shown(given)}; it should {allowed}.{question}{purpose}")


def _requirement(details: Any) -> str:
    """Return what pydantic asks for, as the end of a sentence; of types, in words that YAML's users know."""
    kind, message = details["type"], details["msg"]
    plain = next((text for start, text in _TYPES.items() if kind.startswith(start)), None)
    return plain or re.sub(r"^\w+ should ", "", message).replace(" after validation", "")


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= _MOST_CHARACTERS else f"{text[:_MOST_CHARACTERS]}…"


def _nearest(parameters: Mapping[str, Any], path: Path) -> str:
    """Name the nearest known parameter beside the unknown one, or those of its name elsewhere."""
    name = str(path[-1])
    siblings = _names_at(parameters, path[:-1])
    elsewhere = [known for known in _all_names(EnvironmentParameters) if known.split(".")[-1] == name]
    if elsewhere and not get_close_matches(name, siblings, n=1):
        return f"did you mean {' or '.join(elsewhere)}?"
    return did_you_mean(name, siblings)


def _names_at(parameters: Mapping[str, Any], path: Path) -> list[str]:
    """Return the names that the block at a path may have."""
    return sorted({name for model in _models(parameters, path) for name in model.model_fields})


def _all_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for inner in _branches(field.annotation):
            if isinstance(inner, type) and issubclass(inner, BaseModel):
                yield from _all_names(inner, f"{prefix}{name}.")


def _field(parameters: Mapping[str, Any], path: Path) -> FieldInfo | None:
    """Return the field that a path leads to, or for an item of a list or table the field that holds it."""
    for end in range(len(path), 0, -1):
        for model in _models(parameters, path[: end - 1]):
            if path[end - 1] in model.model_fields:
                return model.model_fields[str(path[end - 1])]
    return None


def _models(parameters: Mapping[str, Any], path: Path) -> list[type[BaseModel]]:
    """Return the models that the value at a path may be of."""
    annotations: list[Any] = [EnvironmentParameters]
    value: Any = parameters
    for part in path:
        following: list[Any] = []
        for annotation in annotations:
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                if part in annotation.model_fields:
                    following += _branches(annotation.model_fields[str(part)].annotation)
            elif get_args(annotation):
                following += _branches(get_args(annotation)[-1])
        value = value[part] if has(value, part) else None
        annotations = following
    models = [a for a in annotations if isinstance(a, type) and issubclass(a, BaseModel)]
    return [model for model in models if _is_chosen(model, value)]


def _branches(annotation: Any) -> list[Any]:
    """Return the members of a union, nested or annotated ones too; any other annotation alone."""
    if get_origin(annotation) is Annotated:
        return _branches(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        return [branch for member in get_args(annotation) for branch in _branches(member)]
    return [annotation]


def _is_chosen(model: type[BaseModel], value: Any) -> bool:
    """Say whether a model is the one that a reader's layout chooses; any other model is."""
    layout = model.model_fields.get("layout")
    return layout is None or not isinstance(value, Mapping) or value.get("layout") in get_args(layout.annotation)
