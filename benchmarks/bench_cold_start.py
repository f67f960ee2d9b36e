"""What a function's process pays before its first event: the time to import each handler, with bytecode cached."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROUNDS = 5


def main() -> None:
    """Import each handler in a process of its own, a few times, and print the medians."""
    bare = _median_ms([sys.executable, "-c", "pass"])
    print(f"a bare interpreter: {bare:.0f} ms; then, on top of it:")
    for app in sorted(ROOT.glob("functions/*/app.py")):
        script = f"import sys; sys.path.insert(0, {str(app.parent)!r}); import app"
        print(f"  {app.parent.name:16} {_median_ms([sys.executable, '-c', script]) - bare:5.0f} ms")


def _median_ms(command: list[str]) -> float:
    path = os.pathsep.join([str(ROOT / "layers/baton"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "AWS_REGION": "us-east-1", "POWERTOOLS_TRACE_DISABLED": "true"}
    subprocess.run(command, env=environment, check=True)
    return statistics.median(_run_ms(command, environment) for _ in range(ROUNDS))


def _run_ms(command: list[str], environment: dict[str, str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, env=environment, check=True)
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
