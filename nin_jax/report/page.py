"""`report.html`: one file that needs no network, whose content is data for `page.js`."""

import base64
import hashlib
import html
import json
import re
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib import resources
from typing import Any

from nin_jax.cost.layer import Cost
from nin_jax.printable import all_printable
from nin_jax.report import curves, layers, statistics
from nin_jax.report.picture import WIDE, shades
from nin_jax.report.statistics import Setting
from nin_jax.report.table import Summary, sentence

MOST = 30  # settings whose curves and layers are shown; of more, those on the front
AXES = (  # number, title, unit, whether more is better
  ("macs", "multiply-accumulates (MACs) an image", "MACs", False),
  ("params", "parameters", "parameters", False),
  ("train_flops", "FLOPs of the whole training", "FLOPs", False),
  ("images_per_second", "measured images/s in training (more is better)", "images/s", True),
)


def page(summary: Summary) -> str:
  """The whole report as HTML; the networks of its settings are traced for it, about a second each.

  Everything that comes from files is in one JSON block, which the script shows as text. The content security policy
  allows the page's own two scripts and no connection.

  Raises:
    ConfigError: a trial's `metrics.jsonl` isn't whole.
  """
  from plotly.offline import get_plotlyjs  # here, for it takes half a second to import

  plotly, script = get_plotlyjs(), _file("page.js") + _file("tables.js")
  title = f"{summary.results.sweep or 'sweep'}: accuracy against cost"
  parts = {
    "policy": f"default-src 'none'; script-src {_hash(plotly)} {_hash(script)}; style-src 'unsafe-inline'; "
    "img-src data: blob:; base-uri 'none'; form-action 'none'",
    "title": html.escape(title),
    "style": _file("page.css"),
    "data": _embedded(content(summary) | {"title": title}),
    "plotly": plotly,
    "script": script,
  }
  return re.sub(r"\{\{(\w+)\}\}", lambda match: parts[match[1]], _file("page.html"))


def content(summary: Summary) -> dict[str, Any]:
  """All that the page shows, in JSON's types: `page.js` says how."""
  results, found = summary.results, summary.settings
  detailed = [i for i, setting in enumerate(found) if len(found) <= MOST or _is_in(setting, summary.front)]
  networks = layers.networks(results, [found[i] for i in detailed])
  few = f"curves and layers of {len(detailed)} of {len(found)} settings, those on the front"
  names = dict(zip(detailed, networks.of_setting, strict=True))
  return {
    "sentence": sentence(summary),
    "progress": results.progress + (f"; {few}" if len(detailed) < len(found) else ""),
    "not_counted": list(networks.missing),
    "axes": [_axis(found, *axis) for axis in AXES],
    "several": len(statistics.shared_fields(found)) > 1,
    "settings": [_setting(summary, setting, colour) for setting, colour in zip(found, _colours(found), strict=True)],
    "fields": list(dict.fromkeys(name for result in results.trials for name in result.setting)),
    "trials": _trials(summary),
    "curves": [_curves(summary, i) for i in detailed],
    "networks": [{"modules": _rows(cost.by_module(1)), "layers": _rows(cost)} for cost in networks.costs],
    "network_of": {i: place for i, place in names.items() if place is not None},
    "footer": _footer(summary),
  }


def _axis(found: Sequence[Setting], number: str, title: str, unit: str, larger: bool) -> dict[str, Any]:
  known = [setting.numbers[number] for setting in found if setting.accuracy and setting.numbers[number] is not None]
  wide = bool(known) and min(known) > 0 and max(known) / min(known) > WIDE
  members = statistics.front_of(found, number, larger)
  places = [next(i for i, setting in enumerate(found) if setting is member) for member in members]
  return {"number": number, "title": title, "unit": unit, "log": wide, "front": places}


def _setting(summary: Summary, setting: Setting, colour: str) -> dict[str, Any]:
  estimate = setting.accuracy
  return setting.numbers | {
    "name": setting.name,
    "label": setting.label,
    "values": setting.values,
    "colour": colour,
    "knee": summary.knee is not None and setting is summary.knee.setting,
    "best": summary.knee is not None and setting is summary.knee.best,
    "front": _is_in(setting, summary.front),
    "n": estimate.n if estimate else 0,
    "planned": len(setting.trials),
    "accuracy": estimate and 100 * estimate.mean,
    "half": 100 * estimate.half if estimate and estimate.half is not None else None,
    "sd": 100 * estimate.sd if estimate and estimate.sd is not None else None,
  }


def _trials(summary: Summary) -> list[dict[str, Any]]:
  place = {result.trial: i for i, setting in enumerate(summary.settings) for result in setting.trials}
  rows = []
  for result in summary.results.trials:
    numbers = dict(result.numbers)
    for name in ("test_accuracy", "train_accuracy"):
      numbers[name] = None if numbers[name] is None else 100 * numbers[name]
    about = {"trial": result.trial, "setting": place[result.trial], "seed": result.seed, "status": result.status}
    fields = {name: _cell(value) for name, value in result.setting.items()}
    rows.append(about | numbers | {"error": result.error, "overrides": fields})
  return rows


def _curves(summary: Summary, i: int) -> dict[str, Any]:
  setting = summary.settings[i]
  of_trial = {result.trial: curves.of_trial(summary.results, result) for result in setting.trials}
  seeds = [{"seed": result.seed, **_numbers(of_trial[result.trial])} for result in setting.trials]
  return {"setting": i, "seeds": seeds, "mean": _numbers(curves.mean(setting, of_trial))}


def _numbers(of: curves.Curves) -> dict[str, Any]:
  """A pair of curves as {"test": [epochs, percent], "train": [epochs, nats]}, to the digits that can be seen."""
  short = lambda values: [float(f"{value:.5g}") for value in values]
  percent = [100 * value for value in of.test.values]
  return {
    "test": [short(of.test.epochs), short(percent)],
    "train": [short(of.train.epochs), short(of.train.values)],
  }


def _rows(cost: Cost) -> list[dict[str, Any]]:
  return [
    {"path": layer.path, "op": layer.op, "macs": layer.macs, "params": layer.params}
    for layer in cost.layers
    if layer.macs or layer.params
  ]


def _footer(summary: Summary) -> dict[str, Any]:
  results = summary.results
  ran = [result for result in results.trials if result.versions]
  devices = ", ".join(dict.fromkeys(result.device for result in ran if result.device))
  versions = dict.fromkeys(" ".join(f"{name} {value}" for name, value in result.versions.items()) for result in ran)
  command = ["python", "-m", "experiments.sweep", f"--config={results.config}", f"--sweep={results.sweep}"]
  return {
    "device": devices,
    "versions": list(versions),
    "date": datetime.fromtimestamp(results.written, UTC).strftime("%Y-%m-%d %H:%M UTC"),
    "command": shlex.join([*command, f"--workdir={results.workdir}"]),
  }


def _cell(value: Any) -> Any:
  return value if isinstance(value, int | float | bool) else statistics.spelled(value)


def _is_in(setting: Setting, members: Sequence[Setting]) -> bool:
  return any(setting is member for member in members)


def _colours(found: Sequence[Setting]) -> list[str]:
  """A colour a setting, from dark for the cheapest to light for the dearest."""
  from plotly.colors import sample_colorscale

  return sample_colorscale("Viridis", shades(len(found)))


def _embedded(value: Any) -> str:
  """JSON that can stand in a script element, whatever text is in it."""
  text = json.dumps(all_printable(value), allow_nan=False, ensure_ascii=True, separators=(",", ":"))
  return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _hash(script: str) -> str:
  return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _file(name: str) -> str:
  return resources.files("nin_jax.report").joinpath(name).read_text(encoding="utf-8")
