"""Processes without root's privileges, for what permissions decide.

As root, a process that is started with `ORDINARY` before its command keeps the user and is refused what is closed to
it, and one with `NAMELESS` has a uid that no name belongs to, no home, and may read everything: the checkout and the
interpreter may be in root's home.
"""

import os
import shutil

IS_ROOT = os.geteuid() == 0
NAMELESS_UID = 54_242
CAN_DROP = not IS_ROOT or shutil.which("setpriv") is not None
ORDINARY = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if IS_ROOT else []
NAMELESS = [
  *("setpriv", f"--reuid={NAMELESS_UID}", f"--regid={NAMELESS_UID}", "--clear-groups"),
  *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
  *("env", "-u", "HOME", "-u", "USER", "-u", "LOGNAME", "-u", "XDG_CACHE_HOME"),
]
