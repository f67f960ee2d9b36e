"""Small pipelines for the tests of the embedded Kubeflow Pipelines; the real compiler makes their IR."""

import functools

from kfp import dsl

step = functools.partial(dsl.component, base_image="python:3.13-slim", install_kfp_package=False)


@step
def note(folder: str, name: str, text: str = "") -> str:
    from pathlib import Path

    Path(folder, name).write_text(text)
    return f"{name}:{text}"


@step
def fail(folder: str) -> str:
    from pathlib import Path

    with Path(folder, "attempts").open("a") as file:
        file.write("x")
    raise ValueError("this task fails on purpose")


@step
def environment(folder: str) -> None:
    import json
    import os
    from pathlib import Path

    Path(folder, "environment.json").write_text(json.dumps(dict(os.environ)))


@step
def sleep_until_terminated(folder: str) -> None:
    import os
    import signal
    import sys
    import time
    from pathlib import Path

    def stop(*_: object) -> None:
        time.sleep(0.3)  # longer than a shell takes to end
        Path(folder, "terminated").write_text("yes")
        sys.exit(143)

    signal.signal(signal.SIGTERM, stop)
    Path(folder, "waiting").write_text(str(os.getpid()))
    time.sleep(60)


@step
def meet(folder: str, mine: str, other: str) -> None:
    import time
    from pathlib import Path

    Path(folder, mine).write_text("here")
    until = time.monotonic() + 20
    while not Path(folder, other).exists():
        if time.monotonic() > until:
            raise TimeoutError("the other task never ran beside this one")
        time.sleep(0.02)


@step
def at_end(folder: str, run_id: str, status: dsl.PipelineTaskFinalStatus) -> None:
    import json
    from pathlib import Path

    Path(folder, "end.json").write_text(json.dumps({"run_id": run_id, "state": status.state}))


def _end(folder):
    return at_end(folder=folder, run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER)


@dsl.pipeline(name="passes-on")
def passes_on(folder: str, count: int = 3, image: str = "registry.example/steps:1"):
    with dsl.ExitHandler(_end(folder), name="work"):
        first = note(folder=folder, name="first", text=dsl.PIPELINE_JOB_ID_PLACEHOLDER)
        first.set_container_image(image)
        note(folder=folder, name="second", text=first.output)


@dsl.pipeline(name="fails")
def fails(folder: str):
    with dsl.ExitHandler(_end(folder), name="work"):
        broken = fail(folder=folder).set_retry(num_retries=1, backoff_duration="0s")
        note(folder=folder, name="after", text=broken.output)
        note(folder=folder, name="beside", text="independent")


@dsl.pipeline(name="waits")
def waits(folder: str):
    with dsl.ExitHandler(_end(folder), name="work"):
        sleep_until_terminated(folder=folder).set_retry(num_retries=1, backoff_duration="0s")


@dsl.pipeline(name="shows-environment")
def shows_environment(folder: str):
    environment(folder=folder)


@dsl.pipeline(name="overlaps")
def overlaps(folder: str):
    meet(folder=folder, mine="a", other="b")
    meet(folder=folder, mine="b", other="a")
