"""The settings of a command: a YAML file, then ``key=value`` pairs from the command line."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ninokit.errors import ConfigError

# A dataclass whose fields are made by `setting`.
Schema = TypeVar("Schema")

_COMMAND_LINE = "the command line"
# What a source gives: key → (value, where it came from).
_Settings = dict[str, tuple[Any, str]]


def setting(default: Any, expected: str, valid: Callable[[Any], bool]) -> Any:
    """A field of a command's settings that knows what it expects.

    Args:
        default: its value where none is given; a list is copied.
        expected: what it must be, in words, for error messages.
        valid: the check of a value of the field's type other than None.

    Returns:
        The field.
    """
    meaning = {"expected": expected, "valid": valid}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=meaning)
    return field(default=default, metadata=meaning)


def at_least_one(value: int) -> bool:
    """Whether a count is 1 or more."""
    return value >= 1


def positive(value: float) -> bool:
    """Whether a number is above 0 and finite."""
    return 0 < value < math.inf


def is_device(name: str) -> bool:
    """Whether a name is one of the devices that ninokit runs on."""
    return re.fullmatch(r"cpu|cuda(:\d+)?", name) is not None


def are_seeds(values: Sequence[int]) -> bool:
    """Whether there is at least one seed, and none twice or below 0."""
    return len(values) > 0 and len(set(values)) == len(values) and min(values) >= 0


COUNT = "a whole number, at least 1"
DEVICE = "cpu, cuda or cuda:N"
SEEDS = "a list of distinct whole numbers from 0, such as [0,1,2]"


def load_config(schema: type[Schema], path: Path | None, overrides: Sequence[str]) -> Schema:
    """The settings from a file and the command line; what neither names keeps its default.

    Args:
        schema: the command's settings: a dataclass of fields made by `setting`.
        path: a YAML file with some of the settings, or None.
        overrides: ``key=value`` pairs, values in YAML, or as they are where a text is asked for, which win over the
            file.

    Returns:
        The checked settings.

    Raises:
        ConfigError: the file is missing or not YAML, a pair is malformed, a key is unknown, or a value is of
            the wrong type or out of its range.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(kw_only=True)
        ... class Settings:
        ...     steps: int = setting(10, COUNT, at_least_one)
        >>> load_config(Settings, None, ["steps=20"]).steps
        20
    """
    settings: _Settings = {}
    if path is not None:
        settings.update(_from_file(path))
    known = {known.name: known for known in fields(schema)}  # type: ignore[arg-type]
    settings.update(_parse_override(override, known) for override in overrides)
    config = OmegaConf.structured(schema)
    for key, (value, origin) in settings.items():
        if key not in known:
            raise ConfigError(_unknown_key(key, known, origin))
        config = _merged(config, known[key], value, origin)
    checked: Schema = OmegaConf.to_object(config)  # type: ignore[assignment]
    return checked


def split_words(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Names and settings, as they stand on the command line.

    Args:
        words: names and ``key=value`` pairs, in any order.

    Returns:
        The two, each in its order.

    Example:
        >>> split_words(["linefit", "seeds=[0,1]", "local-dir:a=b"])
        (['linefit', 'local-dir:a=b'], ['seeds=[0,1]'])
    """
    settings = [word for word in words if re.match(r"\w+=", word)]
    return [word for word in words if word not in settings], settings


def _from_file(path: Path) -> _Settings:
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"configuration file {path}: cannot be read: {reason}. Correct --config") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path}: not valid YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"configuration file {path}: expected lines such as `task: mnist1d_mlp`; got a {type(content).__name__}"
        )
    return {str(key): (value, f"configuration file {path}") for key, value in content.items()}


def _parse_override(override: str, known: Mapping[str, Field[Any]]) -> tuple[str, tuple[Any, str]]:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"{_COMMAND_LINE}: expected key=value, such as seeds=[0,1,2]; got {override!r}")
    is_text = key in known and known[key].type in {"str", "Optional[str]"}
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # the second as for a date that is none
        if is_text:
            return key, (text, _COMMAND_LINE)
        raise ConfigError(f"{_COMMAND_LINE}: the value in {override!r} is not valid YAML; quote or close it") from error
    # A folder may be called 2025-06-01, which is a date in YAML.
    as_written = is_text and value is not None and not isinstance(value, str)
    return key, (text if as_written else value, _COMMAND_LINE)


def _merged(config: Any, known: Field[Any], value: Any, origin: str) -> Any:
    try:
        merged = OmegaConf.merge(config, {known.name: value})
        typed = OmegaConf.to_container(merged, resolve=True)[known.name]  # type: ignore[index, call-overload]
    except OmegaConfBaseException as error:
        raise _wrong_value(known, value, origin) from error
    if isinstance(value, bool) != (known.type == "bool") or (typed is not None and not known.metadata["valid"](typed)):
        raise _wrong_value(known, value, origin)
    return merged


def _unknown_key(key: str, known: Mapping[str, Field[Any]], origin: str) -> str:
    close = difflib.get_close_matches(key, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{origin}: unknown setting {key!r}.{hint} Known settings: {', '.join(known)}"


def _wrong_value(known: Field[Any], value: Any, origin: str) -> ConfigError:
    return ConfigError(f"{origin}: {known.name} must be {known.metadata['expected']}; got {value!r}")
