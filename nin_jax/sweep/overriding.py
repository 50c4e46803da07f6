"""A config with some of its fields changed."""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from nin_jax.checks import field_names, type_mistake, unknown
from nin_jax.errors import ConfigError


def mistakes(base: ConfigDict, overrides: Mapping[str, Any]) -> Iterator[ConfigError]:
  """Yields the overrides whose field the config does not have, or whose value is not of the field's type."""
  for field, value in overrides.items():
    *sections, last = field.split(".")
    section, prefix = base, ""
    for name in sections:
      if not isinstance(section, ConfigDict) or name not in section:
        break
      section, prefix = section[name], f"{prefix}{name}."
    else:
      name = last
    if not isinstance(section, ConfigDict):
      yield ConfigError(field, value, f"a field of a section; {prefix[:-1]} is none")
    elif name not in section:
      yield unknown({name: value}, name, field_names(section) or (), prefix)
    elif isinstance(section[last], ConfigDict):
      within = field_names(section[last]) or ["name"]
      yield ConfigError(field, value, f"overrides of fields of this section, as {field}.{within[0]}")
    elif accepted := type_mistake(value, section[last]):
      yield ConfigError(field, value, accepted)


def typed(base: ConfigDict, overrides: Mapping[str, Any]) -> dict[str, Any]:
  """The overrides, in which `mistakes` finds none, with whole numbers as floats where the field is one."""
  return {field: float(value) if _is_float(base, field) else value for field, value in overrides.items()}


def resolve(base: ConfigDict, overrides: Mapping[str, Any]) -> ConfigDict:
  """A copy of the config with the overrides, in which `mistakes` finds none."""
  config = base.copy_and_resolve_references()
  with config.ignore_type():
    for field, value in typed(base, overrides).items():
      *sections, last = field.split(".")
      section = config
      for name in sections:
        section = section[name]
      section[last] = value
  return config


def _is_float(base: ConfigDict, field: str) -> bool:
  value = base
  for name in field.split("."):
    value = value[name]
  return isinstance(value, float)
