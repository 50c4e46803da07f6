"""The user's mistakes: one clear line that names the field, the value given and what is accepted."""


class ConfigError(ValueError):
  """A value that the user can mend. Commands print it as one line and exit with status 2.

  Args:
    field: the config field or flag, as it would be typed (`data.batch_size`, `--workdir`).
    value: what was given.
    accepted: what would be accepted, in words (`a multiple of the 8 devices`).
  """

  def __init__(self, field: str, value: object, accepted: str):
    self.field, self.value, self.accepted = field, value, accepted
    super().__init__(f"{field}={value!r}: accepted is {accepted}")


class ImageTooSmall(ValueError):
  """A window does not fit into the map that it slides over: the image is too small for the network."""
