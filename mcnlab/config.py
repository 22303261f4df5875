"""The base of all settings: frozen, typed, and refusing unknown names with the nearest valid one."""

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mcnlab.errors import ConfigError, reading_error

_YAML_BREAKS = frozenset("\x85\u2028\u2029")


class Settings(BaseModel):
    """A frozen group of settings; build it from outside input with `parse`."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        ser_json_inf_nan="constants",
        allow_inf_nan=False,  # where infinity means something, the field says so
    )

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, source: str) -> Self:
        """Settings from plain values.

        Args:
            values: names and values, as read from YAML or the command line.
            source: what to name in an error: a file or a flag.

        Returns:
            The validated settings.

        Raises:
            ConfigError: a name is unknown or a value has the wrong type or range.
        """
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            raise ConfigError(f"{source}: {_first_problem(error, cls)}") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping that a YAML file holds.

    Args:
        path: the file.

    Returns:
        Its top-level mapping.

    Raises:
        ConfigError: the file is missing, is not YAML, or does not hold a mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise reading_error(error)(f"{path}: cannot be read ({error})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a number of very many digits, deep nesting
        raise ConfigError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of settings, got {type(values).__name__}")
    return values


def plain_yaml(values: Mapping[str, Any]) -> str:
    """The YAML text that `read_yaml` reads as the very same values.

    Args:
        values: plain values by name, in the order in which they are to stand.

    Returns:
        The text; letters of all scripts as they are, unless some are line breaks to YAML, which are read as spaces.
    """
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    return yaml.safe_dump(values, sort_keys=False) if _YAML_BREAKS & set(text) else text


def with_overrides(values: Mapping[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Settings with `key.inner=value` flags laid over them; values are read as YAML.

    Args:
        values: nested settings.
        overrides: flags such as `training.epochs=3`.

    Returns:
        A new nested mapping.

    Raises:
        ConfigError: a flag has no `=`, or walks through something that is not a mapping.
    """
    merged = yaml.safe_load(yaml.safe_dump(dict(values)))
    for flag in overrides:
        name, equals, text = flag.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {flag}: expected key=value")
        *path, last = name.split(".")
        place = merged
        for step in path:
            place = place.setdefault(step, {}) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            raise ConfigError(f"--set {flag}: {name} is not a setting inside a group")
        try:
            place[last] = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(f"--set {flag}: not valid YAML") from error
    return merged


def laid_over(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with others laid over them."""
    merged = dict(base)
    for name, value in own.items():
        before = merged.get(name)
        nested = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[name] = laid_over(before, value) if nested else value  # type: ignore[arg-type]
    return merged


def _first_problem(error: ValidationError, settings: type[BaseModel]) -> str:
    """The first validation problem in one line, with the nearest valid name for an unknown one."""
    problems = error.errors()
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])  # a slip explains a gap
    place = [str(part) for part in problem["loc"] if not str(part).startswith("<")]  # <…> tags a choice of forms
    name = ".".join(place)
    if problem["type"] != "extra_forbidden":
        told = [name] if name else []
        told.append(problem["msg"].removeprefix("Value error, "))
        own = problem["type"] == "value_error" and isinstance(problem["input"], Mapping)  # already says what is wrong
        if meant := nearest(str(problem["input"]), _choices(problem)):  # in front of the choices, which may be many
            return f"{name}: got {problem['input']!r:.200}{meant} {problem['msg']}"
        return ": ".join(told) + ("" if own or problem["type"] == "missing" else f", got {problem['input']!r:.200}")
    known = _field_names(settings, place[:-1])
    return f"unknown setting {name!r}" + (nearest(place[-1], known) or f"; known here: {', '.join(known)}")


def nearest(word: str, known: Iterable[str]) -> str:
    """What was probably meant, for the end of an error; empty where nothing is close.

    Example:
        >>> nearest("retreival", ["retrieval", "clusters"])
        ", did you mean 'retrieval'?"
    """
    close = difflib.get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def nearest_place(word: str, places: Mapping[str, str]) -> str | None:
    """The place whose name is closest to a word; None where none is close.

    Args:
        word: what was typed.
        places: place → its name.

    Example:
        >>> nearest_place("wrold", {"stores/world": "world", "stores/mine": "mine"})
        'stores/world'
    """
    close = difflib.get_close_matches(word, list(places.values()), n=1)
    return next((place for place, name in places.items() if name in close), None)


def _choices(problem: Mapping[str, Any]) -> list[str]:
    """The texts that a problem's setting may have; none where it is no choice."""
    if problem["type"] != "literal_error":
        return []
    return re.findall(r"'([^']*)'", str(problem.get("ctx", {}).get("expected", "")))


def _field_names(settings: type[BaseModel], path: list[str]) -> list[str]:
    """Names that are valid at a place inside nested settings."""
    for step in path:
        field = settings.model_fields.get(step)
        if field is None:
            continue
        inner = [field.annotation, *getattr(field.annotation, "__args__", ())]
        inner += [deep for part in inner for deep in getattr(part, "__args__", ())]
        models = [part for part in inner if isinstance(part, type) and issubclass(part, BaseModel)]
        settings = models[0] if models else settings
    return sorted(settings.model_fields)
