"""An execution's history, which is closed by the event that ends it."""

from __future__ import annotations

import threading
from typing import Any

from moto.stepfunctions.parser.asl.eval.event.event_manager import EventHistoryContext, EventManager


class History(EventManager):
    """moto's history, but nothing comes after the end, and reading it copies no event."""

    def __init__(self, cloud_watch_logging_session: Any = None) -> None:
        super().__init__(cloud_watch_logging_session=cloud_watch_logging_session)
        self._gate = threading.RLock()
        self._closed = False

    def add_event(self, *arguments: Any, **options: Any) -> int:
        """Add an event, unless the history is closed; return its id."""
        with self._gate:
            return 0 if self._closed else super().add_event(*arguments, **options)

    def close_with(self, event_type: Any, details: Any) -> None:
        """Add the last event."""
        with self._gate:
            context = EventHistoryContext(previous_event_id=self._event_id_gen._next_id - 1)
            self.add_event(context=context, event_type=event_type, event_details=details)
            self._closed = True

    def continued(self) -> History:
        """Return an open history that begins with these events, for a redrive; this one stays closed."""
        history = History(self._cloud_watch_logging_session)
        history._history_event_list.extend(self.get_event_history())
        history._event_id_gen._next_id = self._event_id_gen._next_id
        return history

    def last_id(self) -> int:
        """Return the id of the last event."""
        with self._gate:
            return len(self._history_event_list)

    def get_event_history(self) -> Any:
        """Return the events so far."""
        with self._gate:
            return list(self._history_event_list)
