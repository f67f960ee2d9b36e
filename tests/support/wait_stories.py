"""The stories that are explored: each says what happens to the things of a run, and how often the world interferes."""

from __future__ import annotations

from baton.things import DELETED, PIPELINE_RUN
from tests.support.wait_world import Guards, Message, Story

COMPLETES = {"training": ("InProgress", "Completed")}
COMPLETED = Message("training", "Completed", after="Completed")
STARTED = Message("training", "InProgress")
ENDS = {PIPELINE_RUN: ("RUNNING", "SUCCEEDED")}
ENDED = Message(PIPELINE_RUN, "SUCCEEDED", after="SUCCEEDED")
ENDED_EARLY = Message(PIPELINE_RUN, "SUCCEEDED")
"""The exit handler's event: it is on the bus while the run that sends it is still RUNNING."""

ONLY_WHILE_RUNNING: Guards = {
    ("training", "InProgress"): (PIPELINE_RUN, ("RUNNING",)),
    ("training", "Completed"): (PIPELINE_RUN, ("RUNNING",)),
}
"""What the pipeline run creates, it creates before it ends, and waits for."""
UNTIL_THE_END: Guards = {("training", "InProgress"): (PIPELINE_RUN, ("RUNNING",))}

TWO_RUNS: Guards = {
    (PIPELINE_RUN, "FAILED"): ("worker", ("kfp-b",)),
    ("kfp-b", "SUCCEEDED"): ("worker", ("kfp-b",)),
}
"""Two KFP runs were posted; the second one claimed the work, so the first one fails itself."""

BOTH = (PIPELINE_RUN, "training")

STORIES: dict[str, Story] = {
    "a job completes; one invocation dies": Story(COMPLETES, (COMPLETED,), crashes=1),
    "a job completes; two invocations die": Story(COMPLETES, (COMPLETED,), crashes=2, receives=3),
    "a job completes; two heartbeats are missed and one invocation dies": Story(
        COMPLETES, (COMPLETED,), heartbeats=2, crashes=1
    ),
    "a job completes; its event comes twice and one invocation dies": Story(
        COMPLETES, (Message("training", "Completed", after="Completed", copies=2),), crashes=1
    ),
    "a job completes; one call is refused or loses its answer": Story(COMPLETES, (COMPLETED,), faults=1, crashes=1),
    "a job fails; two calls are refused or lose their answers": Story(
        {"training": ("InProgress", "Failed")}, (Message("training", "Failed", after="Failed"),), faults=2, receives=3
    ),
    "a job completes; an old event comes late": Story(COMPLETES, (COMPLETED, STARTED), crashes=1),
    "a job fails; an event said long before that it had completed": Story(
        {"training": ("InProgress", "Failed")},
        (Message("training", "Completed", genuine=False), Message("training", "Failed", after="Failed")),
    ),
    "a job is stopped": Story(
        {"training": ("InProgress", "Stopping", "Stopped")},
        (Message("training", "Stopping", after="Stopping"), Message("training", "Stopped", after="Stopped")),
    ),
    "a tuning job is deleted": Story(
        {"tuning": ("InProgress", "Deleting", "ABSENT")},
        (Message("tuning", "Deleting", after="Deleting"),),
        awaits=("tuning",),
        crashes=1,
    ),
    "a transform job is created while its wait goes on": Story(
        {"transform": ("ABSENT", "InProgress", "Completed")},
        (Message("transform", "Completed", after="Completed"),),
        awaits=("transform",),
        crashes=1,
    ),
    "an endpoint comes into service after two heartbeats": Story(
        {"endpoint": ("Creating", "InService")},
        (Message("endpoint", "IN_SERVICE", after="InService"),),
        awaits=("endpoint",),
        heartbeats=2,
    ),
    "an endpoint rolls back, and then fails": Story(
        {"endpoint": ("Creating", "RollingBack", "Failed")},
        (Message("endpoint", "ROLLING_BACK", after="RollingBack"), Message("endpoint", "FAILED", after="Failed")),
        awaits=("endpoint",),
    ),
    "a foreign endpoint of the same name is in service": Story(
        {"endpoint": ("foreign Creating", "foreign InService")},
        (Message("endpoint", "IN_SERVICE", after="foreign InService", genuine=False),),
        awaits=("endpoint",),
        crashes=1,
    ),
    "a foreign endpoint appears while ours is awaited": Story(
        {"endpoint": ("ABSENT", "foreign InService")},
        (Message("endpoint", "IN_SERVICE", after="foreign InService", genuine=False),),
        awaits=("endpoint",),
        crashes=1,
    ),
    "a foreign endpoint's deletion is told when ours is not created yet": Story(
        {"endpoint": ("ABSENT", "Creating", "InService")},
        (
            Message("endpoint", "DELETED", genuine=False),
            Message("endpoint", "IN_SERVICE", after="InService"),
        ),
        awaits=("endpoint",),
    ),
    "an endpoint is deleted while it is awaited": Story(
        {"endpoint": ("Creating", "InService", "Deleting", "ABSENT")},
        (Message("endpoint", "DELETING", after="Deleting"),),
        awaits=("endpoint",),
    ),
    "a pipeline run's end event comes before the run is terminal": Story(
        ENDS, (ENDED_EARLY,), awaits=(PIPELINE_RUN,), crashes=1, receives=3
    ),
    # Everything at once; a third receive, or a job with its list of tags to read, would take a minute.
    "a pipeline run succeeds; its event comes twice, an old one, a heartbeat is missed, one invocation dies": Story(
        {**ENDS, "worker": ("kfp-a",)},
        (
            Message(PIPELINE_RUN, "SUCCEEDED", after="SUCCEEDED", copies=2),
            Message(PIPELINE_RUN, "RUNNING", genuine=False),
        ),
        awaits=(PIPELINE_RUN,),
        crashes=1,
        receives=1,
    ),
    "a pipeline run is cancelled": Story(
        {PIPELINE_RUN: ("RUNNING", "CANCELING", "CANCELED")},
        (Message(PIPELINE_RUN, "CANCELED", after="CANCELING"),),
        awaits=(PIPELINE_RUN,),
        receives=3,
    ),
    "a pipeline run is skipped; a look is refused": Story(
        {PIPELINE_RUN: ("PENDING", "SKIPPED")},
        (Message(PIPELINE_RUN, "SKIPPED", after="SKIPPED"),),
        awaits=(PIPELINE_RUN,),
        faults=1,
    ),
    "a pipeline run is deleted; an old event of it comes, and one invocation dies": Story(
        {PIPELINE_RUN: ("RUNNING", DELETED)},
        (Message(PIPELINE_RUN, "SUCCEEDED", genuine=False),),
        awaits=(PIPELINE_RUN,),
        crashes=1,
    ),
    "a pipeline run is deleted and never created its job": Story(
        {PIPELINE_RUN: ("RUNNING", DELETED), "training": ("ABSENT",)}, awaits=BOTH
    ),
    "a pipeline run is deleted while its job goes on": Story(
        {PIPELINE_RUN: ("RUNNING", DELETED), "training": ("InProgress", "Stopped")},
        (Message("training", "Stopped", after="Stopped"),),
        awaits=BOTH,
        heartbeats=0,
    ),
    "the launched pipeline run is deleted while the other does the work": Story(
        {PIPELINE_RUN: ("RUNNING", DELETED), "worker": ("", "kfp-b"), "kfp-b": ("RUNNING", "SUCCEEDED")},
        awaits=(PIPELINE_RUN,),
        guards={(PIPELINE_RUN, DELETED): ("worker", ("kfp-b",)), ("kfp-b", "SUCCEEDED"): ("worker", ("kfp-b",))},
        crashes=1,
    ),
    "the pipeline run that lost the claim fails, and the other does the work": Story(
        {PIPELINE_RUN: ("RUNNING", "FAILED"), "worker": ("", "kfp-b"), "kfp-b": ("RUNNING", "SUCCEEDED")},
        (Message(PIPELINE_RUN, "FAILED", after="FAILED", genuine=False),),
        awaits=(PIPELINE_RUN,),
        guards=TWO_RUNS,
    ),
    "a pipeline run ends and never creates the job; one invocation dies": Story(
        {**ENDS, "training": ("ABSENT",)}, (ENDED,), awaits=BOTH, heartbeats=0, crashes=1
    ),
    "a pipeline run ends and never creates the job; a call is refused or loses its answer": Story(
        {**ENDS, "training": ("ABSENT",)}, (ENDED,), awaits=BOTH, heartbeats=0, faults=1
    ),
    "a pipeline run fails and never creates the job; its event is lost, a heartbeat is missed": Story(
        {PIPELINE_RUN: ("FAILED",), "training": ("ABSENT",)}, awaits=BOTH, heartbeats=1
    ),
    "a pipeline run creates the job at the last moment": Story(
        {**ENDS, "training": ("ABSENT", "InProgress", "Completed")},
        (ENDED,),
        awaits=BOTH,
        guards=UNTIL_THE_END,
        heartbeats=0,
    ),
    "a pipeline run and its job complete": Story(
        {**ENDS, **COMPLETES}, (ENDED, COMPLETED), awaits=BOTH, guards=ONLY_WHILE_RUNNING, heartbeats=0
    ),
    "a pipeline run ends and a foreign endpoint has its endpoint's name": Story(
        {**ENDS, "endpoint": ("ABSENT", "foreign InService")},
        (ENDED,),
        awaits=(PIPELINE_RUN, "endpoint"),
        heartbeats=0,
    ),
    "the tombstone is written while a job completes": Story(
        {**COMPLETES, "tombstone": ("no", "yes")}, (COMPLETED,), crashes=1
    ),
    "a pod creates an endpoint after the sweep": Story(
        {"endpoint": ("ABSENT", "Creating"), "tombstone": ("no", "yes")},
        (Message("endpoint", "CREATING", after="Creating", copies=2),),
        awaits=("endpoint",),
        guards={("endpoint", "Creating"): ("tombstone", ("yes",))},
        crashes=1,
        receives=2,
        must_sweep=True,
    ),
    "the deadline passes while a job completes": Story({**COMPLETES, "clock": ("early", "late")}, (COMPLETED,)),
}
