"""One schedule of a story, told step by step: each step must be one that the exploration would take, too."""

from __future__ import annotations

import json
from typing import Any

from baton.things import KINDS
from tests.support.interleavings import Local
from tests.support.wait_world import Parts, Point, Story, Wait, WaitWorld, label


class Stage:
    """A world at one point, moved on by the names of its moves; every promise is checked after each."""

    def __init__(self, story: Story, parts: Parts | None = None) -> None:
        self.world = WaitWorld(story, parts)
        self.point: Point = self.world.first()

    def happens(self, name: str) -> None:
        """Make the move of this name."""
        moves = dict(self.world.moves(self.point))
        assert name in moves, f"{name!r} cannot happen now, but {sorted(moves)}"
        self.point = moves[name]
        self.world.check(self.point)

    def runs(self, process: str, until: str = "") -> None:
        """Let a process make its calls, up to one (which it does not make) or to its end."""
        while (local := self._find(process)) and (not until or not label(local).endswith(f": {until}")):
            self.happens(label(local))
        assert local or not until, f"{process} never came to {until}"

    def dies(self, process: str) -> None:
        """Let a process make its next call, and die of it."""
        self.happens(f"{self._next(process)}, and it dies")

    def is_refused(self, process: str) -> None:
        """Let a process's next call be refused."""
        self.happens(f"{self._next(process)}, refused")

    def wait(self, kind: str) -> Wait:
        """Return how the wait for a kind stands."""
        return self.point.waits[self.world.story.awaits.index(kind)]

    def ended(self, kind: str) -> Any:
        """Return what ended the wait: a success's output, or a failure's error; None while it is open."""
        ended = json.loads(self.wait(kind).ended or "{}")
        return ended.get("output") or ended.get("error")

    def item(self, kind: str) -> dict[str, Any]:
        """Return the wait's item in the table; {} where there is none."""
        item: dict[str, Any] = json.loads(self.point.table[KINDS.index(kind)] or "{}")
        return item

    def _next(self, process: str) -> str:
        local = self._find(process)
        assert local is not None, f"{process} is not under way"
        return label(local)

    def _find(self, process: str) -> Local | None:
        return next((local for local in self.point.live if label(local).startswith(f"{process}: ")), None)
