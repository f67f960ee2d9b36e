"""What a run's process tells the API server: a file of JSON lines, so that neither ever waits for the other."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_lock = threading.Lock()


def write(path: Path, event: str, **values: Any) -> None:
    """Append one event, with the time."""
    line = json.dumps({"event": event, "at": time.time(), **values}) + "\n"
    # One write with O_APPEND, so that the run's process and its parent never mix their lines.
    with _lock:
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


@dataclass
class Reader:
    """Reads a journal piece by piece."""

    path: Path
    _read: int = field(default=0)

    def news(self) -> list[dict[str, Any]]:
        """Return the events since the last call."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                text = file.read()
        except FileNotFoundError:
            return []
        whole = text[: text.rfind(b"\n") + 1]
        self._read += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
