"""All files of a report."""

import dataclasses
from pathlib import Path

from nin_jax.printable import printable
from nin_jax.report import results
from nin_jax.report.table import Summary, markdown, summarize
from nin_jax.train.storage import replace, writing


@dataclasses.dataclass(frozen=True)
class Report:
  """A sweep's report.

  Attributes:
    summary: the settings, the front and the knee; `table` shows it on a terminal.
    page: `report.html`; png: `pareto.png`; svg: `pareto.svg`; markdown: `report.md`.
    events: the event files for TensorBoard's HParams tab, one for each trial that has ended.
  """

  summary: Summary
  page: Path
  png: Path
  svg: Path
  markdown: Path
  events: tuple[Path, ...]

  @property
  def places(self) -> str:
    """Where its files lie, in lines for a terminal."""
    page, png, svg, markdown = (printable(str(path)) for path in (self.page, self.png, self.svg, self.markdown))
    return f"report: {page}\npicture: {png}, {svg}\ntable: {markdown}"


def write(workdir: str | Path) -> Report:
  """Writes a sweep's report into its workdir, over an older one; of a sweep that still runs, on what there is so far.

  Raises:
    ConfigError: there is no such sweep, a file of it isn't whole, or no trial of it is done yet.
    WorkdirError: the files can't be written.
  """
  from nin_jax.report import hparams, page, picture  # here: the table alone needs none of it

  summary = summarize(results.read(workdir))
  directory = summary.results.workdir
  contents = {"report.html": page.page(summary).encode(), "report.md": markdown(summary).encode()}
  contents |= {f"pareto.{kind}": content for kind, content in picture.draw(summary).items()}
  paths = {name: directory / name for name in contents}
  for name, path in paths.items():
    with writing(path):
      replace(path, contents[name])
  with writing(directory / "trials"):
    events = tuple(hparams.write(summary.results))
  return Report(summary, paths["report.html"], paths["pareto.png"], paths["pareto.svg"], paths["report.md"], events)
