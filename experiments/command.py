"""What every command does with its flags and with the user's mistakes."""

import contextlib
import gc
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from nin_jax import config as configs
from nin_jax import crashes, paths, streams, temporary, whole_files
from nin_jax.errors import ConfigError, line
from nin_jax.printable import without_passwords

# How ml_collections says that a value is of the wrong type → what is accepted.
TYPES = {
  "invalid literal for int": "a whole number",
  "could not convert string to float": "a number",
  "Non-boolean": "true or false",
  "as a ConfigDict": "a field of this section, as --config.section.field=value",
  "is not a dict": "a field of this section, as --config.section.field=value",
}
NO_CONFIG = "accepted is a file whose get_config() returns a ConfigDict"
HELP = re.compile(r"--?help(short|full|xml)?\b|-\?")


def define_config(required: bool = True):
  """Defines --config and gives its holder; overrides are typed as --config.section.field=value."""
  _read_flag_files(sys.argv)  # as ml_collections does in the next line
  holder = _define_file(flags.FLAGS, None)
  if required:
    flags.mark_flag_as_required("config")
  return holder


def define_run_config() -> None:
  """Defines --config for a command on the run in --workdir, whose config it is where no file is given.

  For `run`, since it reads a file that may have a mistake. Where there is no such run, there is no config.
  """
  run_config = _run_config(_read_flag_files(sys.argv))
  if run_config is None:
    define_config(required=False)
  else:
    _define_dict(run_config, flags.FLAGS, None)


def run(main: Callable[[], int | None], define: Callable[[], None] | None = None) -> None:
  """Runs a command and exits: 0 done; 2 the user's mistakes, a line each on stderr; 1 a fault, with traceback.

  Args:
    main: the command, once its flags are read; what it returns is the exit status.
    define: defines flags that depend on others, before any are read.
  """

  def parse(argv: Sequence[str]) -> list[str]:
    argv = _read_flag_files(argv)
    helps = any(map(HELP.match, argv))
    _check_config_file(argv)
    try:
      # A config file that prints must not disturb what the command prints.
      with contextlib.nullcontext() if helps else contextlib.redirect_stdout(sys.stderr):
        if define:
          define()
        rest = flags.FLAGS(list(argv))[1:]
        if "config" in flags.FLAGS:
          getattr(flags.FLAGS.config, "lock", None)  # a file that isn't there is told of when the config is touched
    except BaseException as error:  # a config file is the user's own code: whatever it raises is for the user to mend
      if helps and isinstance(error, SystemExit):
        sys.exit(0)  # absl gives status 1
      fail(*_wrong_overrides(argv) or [explain(error, argv)])
    if rest:
      fail(f"{line(rest[0])}: accepted is a flag, as --name=value (--help lists them)")
    config = flags.FLAGS.config if "config" in flags.FLAGS else None
    given = flags.FLAGS["config"].present if "config" in flags.FLAGS else False
    if given and not isinstance(config, ConfigDict):
      fail(f"{_config_word(argv)}: {NO_CONFIG}, not a value of type {type(config).__name__}")
    logging.set_verbosity(logging.WARNING)  # Orbax tells each step of each save
    return list(argv[:1])

  def guarded(_: Sequence[str]) -> int | None:
    try:
      return main()
    except ConfigError as error:
      fail(*error.mistakes)

  streams.set_up()
  # Tracing makes many objects that stay: to look through them as often as Python does takes an eighth of a warm start.
  gc.set_threshold(50_000, 20, 100)
  logging.get_absl_handler().python_handler.setStream(sys.stderr)  # not the one before `set_up`
  for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
      signal.signal(number, _leave)
  logging.set_verbosity(logging.ERROR)  # ml_collections' own words on a config file come with an error of ours
  crashes.with_stacks(lambda: app.run(guarded, flags_parser=parse))


def _leave(number: int, *_: object) -> None:
  """Ctrl-C, SIGTERM and SIGHUP where there is nothing to save; training has a handler of its own.

  Not KeyboardInterrupt, which some extension modules swallow while they are imported; and at once, since an ordinary
  exit waits for XLA's threads, and may fault.
  """
  cursor = "\x1b[?25h" if sys.stderr.isatty() else ""  # a progress bar may have hidden it
  said = f"{cursor}stopped by {signal.Signals(number).name}; nothing more was saved\n"
  with contextlib.suppress(OSError):  # not print: the signal may have come in the middle of one
    os.write(2, said.encode())
  temporary.remove_all()
  os._exit(128 + number)


def show(text: str, end: str = "\n") -> None:
  """Prints what a command is run for, and ends the command if that can't be written.

  As other programs do: without a word if the reader has gone (`| head -1`), with the status of one that SIGPIPE ended,
  and with a line and status 1 otherwise. What only accompanies files that a command writes is printed by `print`, and
  may be lost.
  """
  print(text, end=end, flush=True)
  error = streams.failure("stdout")
  if isinstance(error, BrokenPipeError):
    sys.exit(128 + signal.SIGPIPE)
  if error:
    print(f"error: standard output can't be written: {error.strerror}", file=sys.stderr)
    sys.exit(1)


def fail(*messages: object) -> None:
  """Ends the command as the user's mistakes, a line each, without passwords."""
  for message in messages:
    print("error:", line(without_passwords(str(message)), 2500), file=sys.stderr)
  sys.exit(2)


def explain(error: BaseException, argv: Sequence[str]) -> str:
  """One line for what absl and ml_collections raise while they read the flags."""
  text = str(error).replace("\\'", "'").strip('"').replace("\\n", " ")
  if "=" in _config_word(argv) and ("'NoneType'>" in text or text.startswith("flag --config=None")):
    return f"{_config_word(argv)}: {NO_CONFIG}, not None"
  if isinstance(error, flags.IllegalFlagValueError) and "Error whilst parsing config file" not in text:
    accepted = next((words for sign, words in TYPES.items() if sign in text), None)
    return text.split(": ")[0].removeprefix("flag ") + f": accepted is {accepted}" if accepted else text
  if isinstance(error, (AttributeError, KeyError)) and (unknown := re.match(r"\W*(\w+)'", text)):
    name, hint = unknown[1], re.search(r'Did you mean "(\w+)"', text)
    given = next((word for word in argv if re.match(rf"--?config\.(\w+\.)*{name}\b", word)), None)
    if given:
      return f"{given}: there is no field {name}" + (f"; did you mean {hint[1]}?" if hint else "")
  if isinstance(error, flags.UnrecognizedFlagError) and "'config." in text and "config" in flags.FLAGS:
    of_run = " (or a --workdir whose config.json is whole)" if _value("workdir", argv) else ""
    return f"--config: accepted is a config file{of_run}, which --{error.flagname} changes"
  if isinstance(error, flags.Error) and "Error whilst parsing config file" not in text:
    return text
  if isinstance(error, OSError):
    colon = "; what follows a colon is no part of its name" if ":" in _config_word(argv) else ""
    return f"{_config_word(argv)}: accepted is a config file that can be read, as configs/inception_digits.py{colon}"
  if isinstance(error, SystemExit):
    return f"{_config_word(argv)}: accepted is a file that gives a config; this one exits"
  return f"{_config_word(argv)}: the file can't be read: {_cause(error, argv)}"


def _cause(error: BaseException, argv: Sequence[str]) -> str:
  """What a config file raised, and where in it."""
  while error.__context__ is not None:  # absl and ml_collections raise errors of their own over it
    error = error.__context__
  path = _config_word(argv).partition("=")[2].partition(":")[0]
  lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
  return f"{type(error).__name__}: {error}" + (f" (line {lines[-1]})" if lines else "")


def _read_flag_files(argv: Sequence[str]) -> list[str]:
  """The command line with the flags of each --flagfile in its place; ends the command if one can't be read."""
  word = _typed(argv, "flagfile")
  accepted = "accepted is a text file of flags that can be read"
  if _is_special(word.partition("=")[2]):
    fail(f"{word}: {accepted}; this is a pipe or a device")
  try:
    return [*argv[:1], *flags.FLAGS.read_flags_from_files(argv[1:], force_gnu=False)]
  except (flags.Error, ValueError) as error:
    fail(f"{word}: {accepted} ({str(error).split('flagfile: ')[-1]})")


def again() -> str:
  """The command line as it was typed, with *** for the passwords and options of URLs."""
  main = sys.modules["__main__"].__spec__
  words = [sys.executable, *(["-m", main.name] if main else sys.argv[:1]), *sys.argv[1:]]
  shown = list(map(without_passwords, words))
  return shlex.join(shown) + ("" if shown == words else "\n(*** stands for a password or options of a URL)")


def overrides() -> dict[str, object]:
  """What the command line changed in the config file: {"section.field": value}."""
  return dict(config_flags.get_override_values(flags.FLAGS["config"]))


def _define_file(values: flags.FlagValues, argv: list[str] | None):
  return config_flags.DEFINE_config_file("config", None, "A file under configs/.", values, sys_argv=argv)


def _define_dict(config: ConfigDict, values: flags.FlagValues, argv: list[str] | None):
  said = "A file under configs/; by default the config of the run in --workdir."
  return config_flags.DEFINE_config_dict("config", config, said, values, sys_argv=argv)


def _wrong_overrides(argv: Sequence[str]) -> list[str]:
  """The lines of all overrides that are wrong, each tried alone; none where there are no several."""
  words = [word for word in argv if re.match(r"--?(no)?config\.[^=]+(=|$)", word)]
  if len(words) < 2 or ("config" not in flags.FLAGS and _run_config(argv) is None):
    return []
  file, run_config = _config_word(argv), _run_config(argv)

  def told(*override: str) -> Iterator[str]:
    values, given = flags.FlagValues(), [argv[0], *([file] if "=" in file else []), *override]
    try:
      if "=" in file:
        _define_file(values, given)
      elif run_config is not None:
        _define_dict(run_config, values, given)
      values(given)
      getattr(values.config, "lock", None)
    except BaseException as error:
      yield explain(error, given)

  if any(told()):  # the file itself is wrong
    return []
  return [said for word in words for said in told(word)]


def _config_word(argv: Sequence[str]) -> str:
  """--config as it was typed."""
  return _typed(argv, "config")


def _typed(argv: Sequence[str], name: str) -> str:
  """A flag as it was typed: --name=value, or --name if it has no value."""
  for word, following in zip(argv, [*argv[1:], ""], strict=True):
    if re.match(f"--?{name}=", word):
      return word
    if re.fullmatch(f"--?{name}", word) and following:
      return f"--{name}={following}"
  return f"--{name}"


def _check_config_file(argv: Sequence[str]) -> None:
  """Ends the command if --config is a pipe or a device."""
  word = _config_word(argv)
  if _is_special(word.partition("=")[2].partition(":")[0]):
    fail(f"{word}: accepted is a config file that can be read; this is a pipe or a device")


def _is_special(path: str) -> bool:
  """Whether a path is that of a pipe or a device: it would block, and flag and config files are read more than once."""
  path = os.path.expanduser(path)
  return os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path))


def _value(name: str, argv: Sequence[str]) -> str | None:
  """The last value of a flag on the command line."""
  found = None
  for word, following in zip(argv, [*argv[1:], ""], strict=True):
    if match := re.fullmatch(f"--?{name}(=(.*))?", word, re.DOTALL):
      found = match[2] if match[1] else following
  return found


def _run_config(argv: Sequence[str]) -> ConfigDict | None:
  """The config of the run in --workdir, where no file is given and there is one."""
  directory = _value("workdir", argv)
  if not directory or "=" in _config_word(argv):
    return None
  try:
    return configs.from_values(whole_files.read_json(paths.directory("--workdir", directory) / "config.json"))
  except (OSError, ValueError):  # main tells of it: flags come first
    return None
