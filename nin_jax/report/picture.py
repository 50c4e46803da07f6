"""The scatter of a sweep as a PNG and an SVG."""

import io
from collections.abc import Sequence
from typing import Any

from nin_jax.printable import printable
from nin_jax.report.statistics import MACS, Setting, shared_fields
from nin_jax.report.table import Summary

SIZE, DPI = (7.2, 4.6), 180  # inches
FRONT, KNEE, FAINT = "#5a5a5a", "#d55e00", 0.4  # Okabe and Ito's vermilion stands out from viridis
LABELS = 14  # more settings than this: those on the front alone are labelled
WIDE = 10  # costs that span more than this factor are drawn on a logarithmic axis


def draw(summary: Summary) -> dict[str, bytes]:
  """Mean test accuracy against MACs, with 95 % intervals, each seed, the Pareto front and the knee.

  Returns:
    The contents of a file by its kind, "png" and "svg"; the same for the same results and release of matplotlib.
  """
  import matplotlib  # here, for it takes half a second to import
  from matplotlib.backends.backend_agg import FigureCanvasAgg
  from matplotlib.figure import Figure

  style = {"svg.hashsalt": "nin_jax", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
  with matplotlib.rc_context(style):
    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    known = [setting for setting in summary.settings if setting.accuracy and setting.numbers[MACS] is not None]
    _scatter(axes, summary, known, [matplotlib.colormaps["viridis"](shade) for shade in shades(len(known))])
    costs = [setting.numbers[MACS] for setting in known]
    wide = bool(costs) and min(costs) > 0 and max(costs) / min(costs) > WIDE
    _dress(axes, summary, wide)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # labels are placed on what is there; the axes must not move any more
    _label(figure, axes, summary, known)
    contents = {}
    for kind, metadata in (("png", {}), ("svg", {"Date": None})):
      file = io.BytesIO()
      figure.savefig(file, format=kind, dpi=DPI, metadata=metadata)
      contents[kind] = file.getvalue()
  return contents


def shades(count: int) -> list[float]:
  """So many places on a colour scale from 0 to 1, its palest end left out."""
  return [0.9 * i / max(1, count - 1) for i in range(count)]


def _scatter(axes: Any, summary: Summary, known: Sequence[Setting], colours: Sequence[Any]) -> None:
  members = [setting for setting in known if any(setting is member for member in summary.front)]
  points = [(setting.numbers[MACS], 100 * setting.accuracy.mean) for setting in members]
  if points:
    axes.plot(*zip(*points, strict=True), color=FRONT, lw=1.2, zorder=1, label="Pareto front")
  for setting, colour in zip(known, colours, strict=True):
    seeds = [100 * result.accuracy for result in setting.trials if result.accuracy is not None]
    cost, estimate = setting.numbers[MACS], setting.accuracy
    axes.plot([cost] * len(seeds), seeds, "o", ms=4, color=colour, alpha=FAINT, mew=0, zorder=2)
    half = None if estimate.half is None else 100 * estimate.half
    axes.errorbar(
      cost, 100 * estimate.mean, half, fmt="o", ms=7, color=colour, mec="white", capsize=3, lw=1.2, zorder=3
    )
  if summary.knee:
    knee = summary.knee.setting
    place = (knee.numbers[MACS], 100 * knee.accuracy.mean)
    axes.plot(*place, "o", ms=14, mfc="none", mec=KNEE, mew=1.8, zorder=4, label="the knee")


def _dress(axes: Any, summary: Summary, wide: bool) -> None:
  from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

  if wide:
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_formatter(NullFormatter())
  axes.margins(x=0.12, y=0.12)
  low, high = axes.get_ylim()
  axes.set_ylim(max(low, -1), min(high, 100 + 0.02 * (high - low)))
  axes.xaxis.set_major_formatter(EngFormatter(sep=""))
  axes.set_xlabel("multiply-accumulates (MACs) an image")
  axes.set_ylabel("test accuracy (%)")
  axes.grid(alpha=0.25, lw=0.6)
  axes.set_axisbelow(True)
  of = f"; labels: {', '.join(fields)}" if len(fields := shared_fields(summary.settings)) > 1 else ""
  title = f"{summary.results.sweep or 'sweep'}: {summary.results.progress}{of}"
  axes.set_title(_shortened(title, 100), loc="left", fontsize=10, parse_math=False)
  if axes.get_legend_handles_labels()[0]:
    axes.legend(loc="lower right", frameon=False)


def _label(figure: Any, axes: Any, summary: Summary, known: Sequence[Setting]) -> None:
  """Writes each setting's name where it covers nothing, the knee's first, then the front's; without room, none."""
  from matplotlib.transforms import Bbox

  renderer, radius = figure.canvas.get_renderer(), 6 * figure.dpi / 72
  taken, bars = [], []
  for setting in known:
    cost, half = setting.numbers[MACS], setting.accuracy.half or 0.0
    ends = [axes.transData.transform((cost, 100 * (setting.accuracy.mean + side * half))) for side in (-1, 1)]
    bars.append(Bbox([[ends[0][0] - radius / 2, ends[0][1]], [ends[1][0] + radius / 2, ends[1][1]]]))
    middle = (ends[0] + ends[1]) / 2
    taken.append(Bbox([middle - radius, middle + radius]))
  if legend := axes.get_legend():
    taken.append(legend.get_window_extent(renderer))
  is_knee = lambda setting: summary.knee is not None and setting is summary.knee.setting
  on_front = lambda setting: any(setting is member for member in summary.front)
  several = len(shared_fields(known)) > 1
  for setting in sorted(known, key=lambda setting: (not is_knee(setting), not on_front(setting))):
    crowded = len(known) > LABELS and not is_knee(setting)
    if crowded and not on_front(setting):
      continue
    name, place = setting.values if several else setting.label, (setting.numbers[MACS], 100 * setting.accuracy.mean)
    text = axes.annotate(
      _shortened(name), place, xytext=(0, 0), textcoords="offset points", fontsize=8, zorder=5, parse_math=False,
      color=KNEE if is_knee(setting) else "#333333",
      bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.75, "pad": 0.5},
    )  # fmt: skip
    # Beside the marker across another's bar is better than far off.
    for far, avoided in ((1, taken + bars), (1, taken), (2, taken + bars), (3.5, taken))[: 2 if crowded else 4]:
      if box := _place(text, far, avoided, axes.bbox, figure.bbox.x1, renderer):
        taken.append(box)
        break
    else:
      text.remove()


def _place(text: Any, far: float, avoided: Sequence[Any], inside: Any, right: float, renderer: Any) -> Any:
  """Moves a text to the first place about its point where it overlaps nothing; gives its box, or None."""
  for dx, dy, across, up in _PLACES:
    text.set(position=(far * dx, far * dy), ha=across, va=up)
    box = text.get_window_extent(renderer).padded(2)
    fits = inside.x0 <= box.x0 and box.x1 <= right and inside.y0 <= box.y0 and box.y1 <= inside.y1
    if fits and not any(box.overlaps(other) for other in avoided):
      return box
  return None


_PLACES = (  # offsets in points from a marker, and how the text stands to them
  (9, -3, "left", "top"),
  (-9, 3, "right", "bottom"),
  (9, 3, "left", "bottom"),
  (-9, -3, "right", "top"),
  (0, 12, "center", "bottom"),
  (0, -12, "center", "top"),
)


def _shortened(text: str, most: int = 48) -> str:
  text = printable(text)
  return text if len(text) <= most else f"{text[: most // 2]}…{text[-most // 2 :]}"
