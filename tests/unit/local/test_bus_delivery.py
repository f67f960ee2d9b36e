from __future__ import annotations

import threading
import time
from collections import Counter

import pytest

from baton_local.dials import Dials
from baton_local.event_delivery import Dispatcher


def deliveries(dials: Dials, count: int) -> list[int]:
    """Return the numbers of the deliveries that arrive, in the order in which they do."""
    dispatcher, arrived, lock = Dispatcher(dials), list[int](), threading.Lock()

    def arrive(number: int) -> None:
        with lock:
            arrived.append(number)

    for number in range(count):
        dispatcher.submit(lambda n=number: arrive(n), key="target", faulty=True)  # type: ignore[misc]
        time.sleep(0.002)
    assert dispatcher.drain(20)
    assert dispatcher.shutdown() == 0
    return arrived


def test_a_quiet_bus_delivers_each_once() -> None:
    assert sorted(deliveries(Dials(), 50)) == list(range(50))


def test_lost_deliveries_do_not_arrive_and_the_seed_says_which() -> None:
    first = deliveries(Dials(loss=0.3, seed=1), 100)
    assert 50 < len(first) < 90
    assert sorted(first) == sorted(deliveries(Dials(loss=0.3, seed=1), 100))
    assert sorted(first) != sorted(deliveries(Dials(loss=0.3, seed=2), 100))
    assert deliveries(Dials(loss=1.0), 20) == []


def test_doubled_deliveries_arrive_twice_at_most() -> None:
    counts = Counter(deliveries(Dials(duplicate=0.4, seed=3), 100))
    assert set(counts) == set(range(100))
    assert set(counts.values()) == {1, 2}


def test_a_delivery_held_back_is_overtaken_by_the_next() -> None:
    arrived = deliveries(Dials(reorder=0.3, seed=4), 40)
    assert sorted(arrived) == list(range(40))
    assert arrived != sorted(arrived)


def test_the_only_delivery_arrives_although_nothing_overtakes_it() -> None:
    assert deliveries(Dials(reorder=1.0), 1) == [0]


def test_a_delay_is_at_most_what_the_dial_says() -> None:
    started = time.monotonic()
    assert sorted(deliveries(Dials(delay_seconds=0.5, seed=5), 20)) == list(range(20))
    assert 0.2 < time.monotonic() - started < 3


def test_faults_are_for_what_asks_for_them() -> None:
    dispatcher, arrived = Dispatcher(Dials(loss=1.0)), threading.Event()
    dispatcher.submit(arrived.set)
    assert arrived.wait(5)
    dispatcher.shutdown()


def test_what_is_durable_is_doubled_but_never_lost() -> None:
    dispatcher, arrived = Dispatcher(Dials(loss=1.0, duplicate=1.0)), list[int]()
    dispatcher.submit(lambda: arrived.append(1), faulty=True, durable=True)
    dispatcher.submit(lambda: arrived.append(2), faulty=True)
    assert dispatcher.drain(5)
    dispatcher.shutdown()
    assert arrived == [1, 1]


def test_a_failing_job_is_reported_and_harms_no_other(capsys: pytest.CaptureFixture[str]) -> None:
    dispatcher, arrived = Dispatcher(Dials()), threading.Event()

    def fail() -> None:
        raise ValueError("no")

    dispatcher.submit(fail)
    dispatcher.later(0.05, arrived.set)
    assert arrived.wait(5)
    assert dispatcher.drain(5)
    assert "ValueError: no" in capsys.readouterr().err
    dispatcher.shutdown()


def test_what_will_not_be_delivered_any_more_is_counted() -> None:
    dispatcher = Dispatcher(Dials())
    for _ in range(3):
        dispatcher.later(60, lambda: None)
    assert dispatcher.pending() == 3
    assert not dispatcher.drain(0.05)
    assert dispatcher.shutdown() == 3
