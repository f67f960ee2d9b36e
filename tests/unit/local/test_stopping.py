"""A process that is told to stop by signals stops, whenever they come."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from baton_local.stopping import Stop

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows has no signals of one's own")


def test_it_waits_until_it_is_told() -> None:
    stop = Stop()
    assert not stop.wait(0.001)
    assert not stop.is_set()
    stop.set()
    assert stop.wait()
    assert stop.wait(0)
    assert stop.is_set()


@pytest.mark.timeout(60, method="thread")
def test_a_signal_may_come_at_any_moment_of_a_wait() -> None:
    stop = Stop()
    handled = 0

    def handle(*_: object) -> None:
        nonlocal handled, stop
        stop.set()
        stop = Stop()
        handled += 1

    def send() -> None:
        # Signals that come while one is waiting to be handled are one, so they are not as many as were sent.
        while handled < 150:
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0)

    previous = signal.signal(signal.SIGUSR1, handle)
    sender = threading.Thread(target=send)
    try:
        sender.start()
        while sender.is_alive():
            stop.wait(0)
    finally:
        sender.join()
        signal.signal(signal.SIGUSR1, previous)
    assert handled >= 150
