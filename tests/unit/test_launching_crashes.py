"""A launch that is killed, or loses an answer, at each of its calls in turn, and is invoked again.

Whatever happens, the end must be that of an undisturbed launch: one KFP run, and the row knows it.
"""

import itertools

import pytest

from baton.errors import RunEnded
from baton.launching import LEASE_SECONDS
from tests.support.launch_world import (
    Crash,
    LaunchWorld,
    crash_after,
    crash_before,
    lose_answer,
    lose_request,
)


def undisturbed():
    world = LaunchWorld()
    world.launch()
    return world


CALLS = undisturbed().calls
END = undisturbed().end_state()
KFP_CALLS = [number for number, name in enumerate(CALLS, 1) if not name.startswith(("GetItem", "UpdateItem"))]
POST = CALLS.index("POST /runs") + 1
EVERY = range(1, len(CALLS) + 1)


def described(number):
    return f"{number}-{CALLS[number - 1].replace('/', '_')}"


def test_an_undisturbed_launch_makes_these_calls():
    assert CALLS == [
        "GetItem run",
        "GET /healthz",
        "GET /experiments",
        "POST /experiments",
        "GET /pipelines/names/baton-mnist-kmeans",
        "POST /pipelines/upload",
        "GET /pipelines/pipeline-2/versions",
        "POST /pipelines/upload_version",
        "UpdateItem run",
        "GET /runs",
        "UpdateItem run",
        "POST /runs",
        "UpdateItem run",
    ]
    assert END["runs"] == [(LaunchWorld().run_id, "PENDING")]


@pytest.mark.parametrize("fault", [crash_after, crash_before])
@pytest.mark.parametrize("number", EVERY, ids=described)
def test_a_crash_at_any_call_leaves_one_run(number, fault):
    world = LaunchWorld()
    world.faults[number] = fault
    facts = world.launch_until_done()
    assert world.end_state() == END
    assert world.row["pipeline_run_id"] == facts["id"]


@pytest.mark.parametrize("fault", [lose_answer, lose_request])
@pytest.mark.parametrize("number", KFP_CALLS, ids=described)
def test_a_lost_answer_or_request_at_any_call_leaves_one_run(number, fault):
    world = LaunchWorld()
    world.faults[number] = fault
    world.launch_until_done()
    assert world.end_state() == END


def test_two_crashes_at_any_two_calls_leave_one_run():
    # The second number counts on through the second invocation, so this also kills the recovery at each of its calls.
    explored = 0
    for first, second in itertools.combinations(range(1, 2 * len(CALLS) + 1), 2):
        world = LaunchWorld()
        world.faults = {first: crash_after, second: crash_after}
        world.launch_until_done()
        assert world.end_state() == END, (first, second)
        explored += 1
    assert explored == 325


def test_a_post_that_is_committed_after_the_crash_is_found():
    world = LaunchWorld()

    def kept_back(name, effect):
        world.fake.late.append(effect)
        raise Crash(name)

    world.faults[POST] = kept_back
    with pytest.raises(Crash):
        world.launch()
    world.now += 2
    world.fake.commit_late()
    world.launch_until_done()
    assert world.end_state() == END


@pytest.mark.parametrize("number", EVERY, ids=described)
def test_a_crash_at_any_call_of_a_run_that_is_then_stopped_leaves_nothing_running(number):
    world = LaunchWorld()
    world.faults[number] = crash_after
    with pytest.raises(Crash):
        world.launch()
    world.runs.end_badly(world.run_id)
    with pytest.raises(RunEnded):
        world.launch()
    assert all(run["state"] == "CANCELING" for run in world.posted)


@pytest.mark.parametrize("number", EVERY, ids=described)
def test_a_run_that_is_stopped_after_any_call_leaves_nothing_running(number):
    world = LaunchWorld()

    def stopped(name, effect):
        reply = effect()
        world.faults.clear()
        world.runs.end_badly(world.run_id)
        return reply

    world.faults[number] = stopped
    if number == len(CALLS):
        # The launch is over, and the recorded run is clean-up's to terminate.
        assert world.launch()["id"] == world.row["pipeline_run_id"]
        return
    with pytest.raises(RunEnded):
        world.launch()
    assert all(run["state"] == "CANCELING" for run in world.posted)


@pytest.mark.parametrize("number", EVERY, ids=described)
def test_a_second_invocation_in_the_middle_of_the_first_starts_no_second_run(number):
    world = LaunchWorld()

    def meanwhile(name, effect):
        reply = effect()
        world.faults.clear()
        inner.append(world.launch_until_done())
        return reply

    inner = []
    world.faults[number] = meanwhile
    try:
        outer = world.launch()
    except Exception:
        outer = world.launch_until_done(LEASE_SECONDS)
    assert inner
    assert {outer["id"], inner[0]["id"]} == {world.row["pipeline_run_id"]}
    assert len(world.posted) == 1


# --- a launch that finds the run ended ------------------------------------------------------------------------------


def posted_and_stopped():
    """A run that was stopped when its POST was committed and nothing recorded, because the attempt was killed."""
    world = LaunchWorld()
    world.faults[POST] = crash_after
    with pytest.raises(Crash):
        world.launch()
    world.faults.clear()
    world.runs.end_badly(world.run_id)
    world.calls.clear()
    return world


def stopped_while_it_posts():
    """A run that is stopped while its POST is under way, so that the attempt itself finds the tombstone."""
    world = LaunchWorld()

    def stopped(name, effect):
        reply = effect()
        # Who stops the run is another process: its call is neither counted nor crashed.
        called, faults, world.faults = list(world.calls), world.faults, {}
        world.runs.end_badly(world.run_id)
        world.calls[:], world.faults = called, faults
        return reply

    world.faults[POST] = stopped
    return world


STOPPED = [posted_and_stopped, stopped_while_it_posts]


def refused(world):
    """Invoke until the launch is refused, as the state machine does."""
    with pytest.raises(RunEnded):
        world.launch_until_done()
    return world


def is_over(world):
    """Whether the one run that was posted is being terminated, and nothing else was posted."""
    return world.end_state()["runs"] == [(world.run_id, "CANCELING")] and "ended_at" in world.row


@pytest.mark.parametrize("story", STOPPED)
def test_a_launch_of_an_ended_run_that_is_killed_after_any_two_calls_leaves_nothing_running(story):
    calls = len(refused(story()).calls)
    first = POST + 1 if story is stopped_while_it_posts else 1
    for fault in (crash_after, crash_before):
        for one, other in itertools.combinations_with_replacement(range(first, 2 * calls), 2):
            world = story()
            world.faults |= {one: fault, other: fault}
            assert is_over(refused(world)), (fault, one, other)


@pytest.mark.parametrize("fault", [lose_answer, lose_request])
@pytest.mark.parametrize("story", STOPPED)
def test_a_launch_of_an_ended_run_that_loses_any_answer_or_request_leaves_nothing_running(story, fault):
    calls = refused(story()).calls
    first = POST if story is stopped_while_it_posts else 0
    lossy = [number for number, name in enumerate(calls, 1) if number > first and not name.endswith("Item run")]
    assert lossy
    for number in lossy:
        world = story()
        world.faults[number] = fault
        assert is_over(refused(world)), calls[number - 1]


def test_the_stories_reach_every_call_that_a_launch_makes():
    again = undisturbed()
    again.launch()
    made = {*again.calls, *(name for story in STOPPED for name in refused(story()).calls)}
    (run,) = again.posted
    assert made == {*CALLS, f"GET /runs/{run['run_id']}", f"POST /runs/{run['run_id']}:terminate"}
