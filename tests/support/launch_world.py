"""A launch in memory: a table, a KFP, and a clock; every call of either can be crashed, lost, or kept back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from baton.errors import BatonError
from baton.kfp import KfpClient
from baton.kfp.transport import Unanswered
from baton.launching import Launcher
from baton.plan import Planner
from baton.runs import Runs
from tests.support.kfp_fake import FakeKfp, InProcess
from tests.support.memory import MemoryItems
from tests.support.starting import BUCKET, EXECUTION, STARTED, HeadsOf, catalogue, settings_of

KEY = "uploads/mnist_kmeans/mnist.pkl.gz"
PACKAGED = catalogue()
MAX_ATTEMPTS = 11

Fault = Callable[[str, Callable[[], Any]], Any]


class Crash(BaseException):
    """The function's process is gone: nothing in it may catch this."""


class LaunchWorld:
    """``faults`` maps the number of a call (from 1) to what becomes of it; the others go well."""

    def __init__(self, **settings: Any) -> None:
        self.now = float(STARTED)
        self.fake = FakeKfp()
        self.calls: list[str] = []
        self.faults: dict[int, Fault] = {}
        self.items = MemoryItems(lambda: self.now, self.around)
        self.runs = Runs(self.items)
        self.settings = settings_of(**settings)
        s3 = HeadsOf({(BUCKET, KEY): (17, "v1")})
        self.plan = Planner(PACKAGED, s3, self.runs, self.settings).plan({"dataset": f"s3://{BUCKET}/{KEY}"}, EXECUTION)
        self.run_id: str = self.plan["run_id"]
        self.attempts = 0
        self.calls.clear()

    def around(self, name: str, effect: Callable[[], Any]) -> Any:
        self.calls.append(name)
        fault = self.faults.get(len(self.calls))
        return fault(name, effect) if fault else effect()

    def launch(self) -> dict[str, Any]:
        """One invocation, in a process of its own."""
        self.attempts += 1
        client = KfpClient(InProcess(self.fake, self.around), sleep=lambda _: None)
        return Launcher(self.runs, client, PACKAGED, self.settings).launch(self.plan, f"attempt {self.attempts}")

    def launch_until_done(self, pause: float = 8.0) -> dict[str, Any]:
        """Invoke as the state machine does: again after a crash or a retryable error."""
        while True:
            try:
                return self.launch()
            except Crash:
                pass
            except BatonError as error:
                if not error.retryable:
                    raise
            assert self.attempts < MAX_ATTEMPTS, "the state machine would have given up"
            self.now += pause

    @property
    def row(self) -> dict[str, Any]:
        return self.items.stored["run", self.run_id]

    @property
    def posted(self) -> list[dict[str, Any]]:
        return [run for run in self.fake.runs.values() if run["display_name"] == self.run_id]

    def end_state(self) -> dict[str, Any]:
        """What is left when all is over, without the ids that depend on the order of calls."""
        row = {name: value for name, value in self.row.items() if name != "launch_attempt"}
        recorded = self.fake.runs.get(str(row.pop("pipeline_run_id", "")), {})
        return {
            "row": row,
            "recorded": (recorded.get("display_name"), recorded.get("state")),
            "runs": sorted((run["display_name"], run["state"]) for run in self.fake.runs.values()),
            "experiments": sorted(e["display_name"] for e in self.fake.experiments.values()),
            "pipelines": sorted(p["name"] for p in self.fake.pipelines.values()),
            "versions": sorted(v["name"] for v in self.fake.versions.values()),
        }


def on(world: LaunchWorld, name: str, fault: Fault, times: int = 1) -> None:
    """Let a fault befall the next calls of this name."""
    left = [times]
    before = world.around

    def around(called: str, effect: Callable[[], Any]) -> Any:
        if called == name and left[0]:
            left[0] -= 1
            world.calls.append(called)
            return fault(called, effect)
        return before(called, effect)

    world.around = around  # type: ignore[method-assign]
    world.items._around = around


def crash_after(name: str, effect: Callable[[], Any]) -> Any:
    effect()
    raise Crash(name)


def crash_before(name: str, effect: Callable[[], Any]) -> Any:
    raise Crash(name)


def lose_answer(name: str, effect: Callable[[], Any]) -> Any:
    effect()
    raise Unanswered("the connection was cut")


def commit_later(world: LaunchWorld) -> Fault:
    """Return the fault of a request that times out, and takes effect when KFP's ``commit_late`` is called."""

    def kept_back(name: str, effect: Callable[[], Any]) -> Any:
        world.fake.late.append(effect)
        return lose_request(name, effect)

    return kept_back


def lose_request(name: str, effect: Callable[[], Any]) -> Any:
    raise Unanswered("timed out")
