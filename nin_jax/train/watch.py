"""Who is told how a training goes, while it goes."""

from collections.abc import Sequence


class Pruned(Exception):
  """The watch ended the training early, after an evaluation.

  Attributes:
    step: of the evaluation.
  """

  def __init__(self, step: int):
    self.step = step
    super().__init__(f"ended after step {step}")


class Watch:
  """Is told how one training goes, or several by one program; this one takes no notice."""

  def begins(self, step: int, total_steps: int) -> None:
    """Training begins, or goes on, after a step."""

  def stepped(self, step: int) -> None:
    """A step has ended. Called for each: to be cheap."""

  def stopped(self, lane: int, reason: Exception) -> None:
    """The training of this place in the program can't go on; the others do."""

  def ended(self, lane: int, result: dict) -> None:
    """The training of this place in the program has its `result.json`, from now or from before."""

  def evaluated(self, step: int, accuracies: Sequence[float]) -> bool:
    """Those that go on have these accuracies on the test images (0 to 1); returns whether they are to."""
    return True
