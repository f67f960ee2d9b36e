"""Whether a process may become others by forking, which spares each of them the loading of its libraries."""

from __future__ import annotations

import sys

CAN_FORK = sys.platform == "linux"
"""macOS's system libraries do not survive a fork without an exec, and Windows has none."""
