"""pydantic validation whose messages a user can act on: where, which key, which value, what is near."""

from __future__ import annotations

import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from diablo.data.protocol import unknown

Model = TypeVar("Model", bound=BaseModel)


class Strict(BaseModel):
    """A model that refuses unknown keys (the message names the nearest valid one)."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def hidden(message: str) -> PydanticCustomError:
    """The error of a validator whose value may be a secret: `validate` does not show the value."""
    # The message is a template to pydantic: braces of its own would be fields.
    return PydanticCustomError("hidden", "{message}", {"message": message})


def validate(model: type[Model], value: Any, where: str) -> Model:
    """Validate `value`, with a message a user can act on.

    Raises:
        ValueError: names `where`, each bad key with its value, and the nearest valid key.
    """
    try:
        return model.model_validate({} if value is None else value)
    except ValidationError as error:
        lines = [_explain(model, problem, where) for problem in error.errors()]
        raise ValueError("\n".join(lines)) from None


def _explain(model: type[BaseModel], problem: Any, where: str) -> str:
    path = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return unknown("key", problem["loc"][-1], _keys_at(model, problem["loc"][:-1]), where)
    if problem["type"] == "literal_error":
        options = problem["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return unknown("value", problem["input"], options, f"{where}: {path}")
    if problem["type"] == "missing":
        return f"{where}: {path}: this key is required"
    message = problem["msg"].removeprefix("Value error, ")
    if not path:
        return f"{where}: {message}"
    if problem["type"] == "hidden":
        return f"{where}: {path}: {message}"
    return f"{where}: {path} = {problem['input']!r}: {message}"


def _keys_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """Field names that are valid at a place inside `model` (list indexes and dict keys skipped)."""
    current: Any = model
    for part in loc:
        if isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(str(part))
            current = field.annotation if field else None
        else:
            current = next(reversed(typing.get_args(current)), None)
        models = [arg for arg in typing.get_args(current) if _is_model(arg)]
        if models and typing.get_origin(current) not in (dict, list):
            current = models[0]
    return list(current.model_fields) if _is_model(current) else []


def _is_model(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


def read_yaml(path: Path) -> Any:
    """What a YAML file says, None if it is empty; ValueError with its name if it is not YAML."""
    try:
        # The C parser, about eight times as fast: every plan reads all experiments.
        return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: not valid YAML ({error})") from error


def load_yaml(model: type[Model], path: Path) -> Model:
    """Read and validate one YAML file.

    Raises:
        ValueError: if it is not YAML or does not fit; the message names the file and the key.
    """
    return validate(model, read_yaml(path), str(path))
