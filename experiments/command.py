"""What every command does with its flags and with the user's mistakes."""

import os
import re
import signal
import sys
from collections.abc import Callable, Sequence

from absl import app, flags, logging
from ml_collections import config_flags

from nin_jax.errors import ConfigError

# How ml_collections says that a value is of the wrong type → what is accepted.
TYPES = {
  "invalid literal for int": "a whole number",
  "could not convert string to float": "a number",
  "Non-boolean": "true or false",
  "as a ConfigDict": "a field of this section, as --config.section.field=value",
  "is not a dict": "a field of this section, as --config.section.field=value",
}


def define_config(required: bool = True):
  """Defines --config and gives its holder; overrides are typed as --config.section.field=value."""
  holder = config_flags.DEFINE_config_file("config", None, "A file under configs/.", lock_config=True)
  if required:
    flags.mark_flag_as_required("config")
  return holder


def run(main: Callable[[], int | None]) -> None:
  """Runs a command and exits: 0 done; 2 the user's mistake, in one line on stderr; 1 a fault, with traceback."""

  def parse(argv: Sequence[str]) -> list[str]:
    try:
      rest = flags.FLAGS(list(argv))[1:]
      if "config" in flags.FLAGS:
        getattr(flags.FLAGS.config, "lock", None)  # a file that isn't there is told of when the config is touched
    except Exception as error:  # a config file is the user's own code: whatever it raises is for the user to mend
      fail(explain(error, argv))
    if rest:
      fail(f"{rest[0]}: accepted is a flag, as --name=value (--help lists them)")
    return list(argv[:1])

  def guarded(_: Sequence[str]) -> int | None:
    try:
      return main()
    except ConfigError as error:
      fail(error)

  signal.signal(signal.SIGINT, _leave)
  logging.set_verbosity(logging.WARNING)  # Orbax tells each step of each save
  app.run(guarded, flags_parser=parse)


def _leave(*_: object) -> None:
  """Ctrl-C where there is nothing to save; training has a handler of its own.

  Not KeyboardInterrupt, which some extension modules swallow while they are imported; and at once, since an ordinary
  exit waits for XLA's threads, and may fault.
  """
  cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar may have hidden it
  print(f"{cursor}interrupted", file=sys.stderr, flush=True)
  sys.stdout.flush()
  os._exit(128 + signal.SIGINT)


def fail(message: object) -> None:
  """Ends the command as the user's mistake."""
  print("error:", " ".join(str(message).split()), file=sys.stderr)
  sys.exit(2)


def explain(error: Exception, argv: Sequence[str]) -> str:
  """One line for what absl and ml_collections raise while they read the flags."""
  text = str(error).replace("\\'", "'").strip('"').replace("\\n", " ")
  if isinstance(error, flags.IllegalFlagValueError):
    accepted = next((words for sign, words in TYPES.items() if sign in text), None)
    return text.split(": ")[0].removeprefix("flag ") + f": accepted is {accepted}" if accepted else text
  if isinstance(error, (AttributeError, KeyError)) and (unknown := re.match(r"\W*(\w+)'", text)):
    name, hint = unknown[1], re.search(r'Did you mean "(\w+)"', text)
    given = next((word for word in argv if re.match(rf"--config\.(\w+\.)*{name}\b", word)), None)
    if given:
      return f"{given}: there is no field {name}" + (f"; did you mean {hint[1]}?" if hint else "")
  if isinstance(error, flags.UnrecognizedFlagError) and "'config." in text and "config" in flags.FLAGS:
    return f"--config: accepted is a config file, which --{error.flagname} changes"
  if isinstance(error, (flags.Error, ConfigError)):
    return text
  if isinstance(error, OSError):
    given = next((word for word in argv if word.startswith("--config=")), "--config")
    return f"{given}: accepted is a config file that can be read, as configs/inception_digits.py"
  return f"--config: the file can't be read: {type(error).__name__}: {text}"


def overrides() -> dict[str, object]:
  """What the command line changed in the config file: {"section.field": value}."""
  return dict(config_flags.get_override_values(flags.FLAGS["config"]))
