"""What an engine tells while trials are trained."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Started:
  """A group of trials has been taken on; where: "worker 1", a node's name. Again, where an engine moves it itself."""

  trials: tuple[str, ...]
  where: str


@dataclasses.dataclass(frozen=True)
class Stepped:
  """The trials, trained by one program, have made so many steps of their training."""

  trials: tuple[str, ...]
  step: int
  total_steps: int


@dataclasses.dataclass(frozen=True)
class Evaluated:
  """The trials' accuracies on the test images after a step."""

  trials: tuple[str, ...]
  step: int
  accuracies: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Ended:
  """A trial has come to its end; result: the object in its `result.json`."""

  trial: str
  result: dict


@dataclasses.dataclass(frozen=True)
class Failed:
  """A trial can't go on.

  Attributes:
    trial: its id.
    error: one line.
    final: it would fail again in the same way: its loss is not finite, its network dead, or its process crashes.
    crashed: its process crashed in native code, which is no fault of the trial.
  """

  trial: str
  error: str
  final: bool
  crashed: bool = False


@dataclasses.dataclass(frozen=True)
class Pruned:
  """A search has ended the trials early, after an evaluation with these accuracies."""

  trials: tuple[str, ...]
  step: int
  accuracies: tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Saved:
  """The trials were asked to stop, and their state is saved."""

  trials: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Broken:
  """Nothing can be written to the trials' workdirs any more (error: one line): the others won't do better."""

  trials: tuple[str, ...]
  error: str


@dataclasses.dataclass(frozen=True)
class Lost:
  """The process that trained these trials has gone; they go on from their checkpoints when they are taken on again."""

  trials: tuple[str, ...]
  error: str


Event = Started | Stepped | Evaluated | Ended | Failed | Pruned | Saved | Broken | Lost
KINDS = {kind.__name__: kind for kind in Event.__args__}


def to_json(event: Event) -> dict:
  """The event as JSON's types."""
  return {"event": type(event).__name__, **dataclasses.asdict(event)}


def from_json(value: dict) -> Event:
  """The event that `to_json` was given."""
  fields = {name: tuple(item) if isinstance(item, list) else item for name, item in value.items() if name != "event"}
  return KINDS[value["event"]](**fields)
