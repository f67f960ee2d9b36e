"""The report: complete for a good run, honest for a failed one, and there for every partial state."""

from __future__ import annotations

import base64
import html
import json
import re
import struct
import zlib
from datetime import timedelta
from html.parser import HTMLParser

import numpy as np
import pytest
from botocore.exceptions import ClientError

from baton.dataset.convert import artefacts, manifest
from baton.dataset.mnist import Mnist, Split
from baton.errors import GateNotMet
from baton.names import run_id_for
from baton.report.links import Console, web_address
from baton.report.page import duration, moment, number, size
from baton.report.pictures import digit_png
from baton.report.timeline import Timeline
from baton.report.write import Writer
from baton.smoke import run_smoke_test, told_apart
from tests.support.logs import warned_of
from tests.support.report_samples import (
    BUCKET,
    EXECUTION,
    GATES,
    RUN_ID,
    SHA256,
    STARTED,
    DigitsEndpoint,
    History,
    MemoryS3,
    digit_splits,
    failed_history,
    plan,
    receipt,
    state,
    succeeded_history,
)


class Histories:
    """The one call of Step Functions that matters here."""

    def __init__(self, events, error=None):
        self.events, self.error = events, error

    def get_paginator(self, name):
        assert name == "get_execution_history"
        return self

    def paginate(self, **request):
        assert request == {"executionArn": EXECUTION["id"], "includeExecutionData": False}
        if self.error:
            raise self.error
        return iter([{"events": self.events[:5]}, {"events": self.events[5:]}])


@pytest.fixture(scope="module")
def smoke_tested():
    """S3 with a smoke test of a real model on it, and its summary."""
    train, valid, test = (Split(*pair) for pair in digit_splits())
    mnist = Mnist(train, valid, test, 1, "0")
    s3 = MemoryS3()
    for artefact in [*artefacts(mnist), manifest(mnist, {}, {})]:
        s3.put_object(BUCKET, f"runs/{RUN_ID}/{artefact.path}", artefact.content, artefact.content_type)
    return s3, run_smoke_test(plan(), s3, DigitsEndpoint(train.images))


def write(s3, the_state, events=(), error=None, execution=EXECUTION, partition="aws-cn", after=881):
    writer = Writer(s3, Histories(list(events), error), partition, "cn-northwest-1", BUCKET, "bt-")
    verdict = writer.write(execution, the_state, "0", STARTED + timedelta(seconds=after))
    key = verdict["report"].removeprefix(f"s3://{BUCKET}/")
    page = s3.objects[BUCKET, key].decode()
    document = json.loads(s3.objects[BUCKET, key.replace(".html", ".json")])
    return verdict, document, page


class Text(HTMLParser):
    """Collects the visible text, the tags and the attributes; complains where tags do not close in order."""

    VOID = ("meta", "link", "img", "br")

    def __init__(self, page: str):
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.tags: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "srcset", "data")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "title"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


def test_a_good_run_s_report_shows_all_of_it(smoke_tested):
    s3, summary = smoke_tested
    verdict, document, page = write(s3, state(smoke_test=summary), succeeded_history())
    read = Text(page)
    assert verdict["status"] == document["status"] == "SUCCEEDED"
    for words in (
        "mnist_kmeans bt-t1abcde0f1g2h",
        "Started 23 November 2026, 22:00:00 UTC and took 14 min 41 s. 70,000 rows prepared, 50,000 of them trained on.",
        "10 held-out digits",
        "Confusion matrix",
        "Smoke-test endpoint",
        "2 attempts",
        f"s3://baton-runs/uploads/mnist_kmeans/mnist.pkl.gz 17.1 MB SHA-256 {SHA256}",
        f"What stays s3://{BUCKET}/runs/{RUN_ID}/model/ s3://{BUCKET}/runs/{RUN_ID}/predictions/ "
        f"s3://{BUCKET}/runs/{RUN_ID}/report/",
        "Best of 9 training jobs: bt-t1abcde0f1g2h-tune-004-8d1f , test:msd = 0.0521",
        "mini_batch_size 517",
        "train:msd 0.0518",
        "bt-t1abcde0f1g2h-train/output/model.tar.gz",
        "Training job 1 x ml.m5.large 1 min 34 s",
        "Endpoint 1 x ml.m5.large 1 min 08 s from InService until clean-up had ended",
        "6 intermediate objects deleted (7 versions)",
        "Endpoint configuration bt-t1abcde0f1g2h-config deleted",
    ):
        assert words in read.text
    assert read.tags.count("img") == 11
    assert page.count('class="cell"') == sum(
        count > 0 for row in document["smoke_test"]["confusion"]["rows"] for count in row
    )
    assert s3.types[f"runs/{RUN_ID}/report/report.html"] == "text/html; charset=utf-8"
    assert s3.types[f"runs/{RUN_ID}/report/report.json"] == "application/json"


def test_the_bill_of_step_functions_counts_the_retries():
    _, document, _ = write(MemoryS3(), state(), succeeded_history())
    (driver,) = [driver for driver in document["cost_drivers"] if driver["what"] == "Step Functions"]
    assert driver["basis"] == "14 state transitions and 1 retry, each billed as one, up to this report"


def test_what_costs_little_has_a_line_each():
    _, document, _ = write(MemoryS3(), state(), succeeded_history())
    timeline = Timeline(succeeded_history())
    found = {driver["what"]: driver["seconds"] for driver in document["cost_drivers"]}
    assert found["Lambda"] == timeline.seconds("Prepare data")
    assert found["Pods"] == timeline.seconds("Await pipeline run")
    assert found["S3"] is None
    refused = {"plan": None, "failure": {"Error": "InvalidInput", "Cause": "k"}, "receipt": receipt(items=[], kept=[])}
    _, document, _ = write(MemoryS3(), refused)
    assert not {"Pods", "S3"} & {driver["what"] for driver in document["cost_drivers"]}


def test_the_page_asks_nothing_of_the_network_and_runs_no_script(smoke_tested):
    s3, summary = smoke_tested
    _, _, page = write(s3, state(smoke_test=summary), succeeded_history())
    read = Text(page)
    assert not {"script", "iframe", "object", "embed", "form", "video", "audio"} & set(read.tags)
    assert "default-src 'none'" in html.unescape(page)
    assert re.findall(r"url\(|@import|@font-face", page) == []
    links = [address for address in read.addresses if not address.startswith("data:")]
    assert all(address.startswith("https://") for address in links)
    assert read.tags.count("a") == len(links)


def test_a_failed_run_s_report_begins_with_the_true_cause():
    reason = "AlgorithmError: k is larger than the data set"
    failure = {"Error": "PipelineRunFailed", "Cause": json.dumps({"errorMessage": "The run ended FAILED."})}
    items = [{**i, "status": "Failed", "reason": reason} if i["kind"] == "training" else i for i in receipt()["items"]]
    cause = {"error": "JobFailed", "cause": reason}
    failed = state(
        outcomes={"tuning": None, "training": None}, failure=failure, receipt=receipt(items=items, cause=cause)
    )
    verdict, document, page = write(MemoryS3(), failed, failed_history(), after=591)
    text = Text(page).text
    assert (verdict["error"], document["cause"]) == ("JobFailed", reason)
    assert text.index(reason) < text.index("Timeline")
    assert "ended after 9 min 51 s" in text
    assert "Await training failed" in text
    assert "Await pipeline run aborted" in text
    assert text.count("not reached") == 2
    assert document["smoke_test"] is None
    assert {link["text"] for link in document["links"]} >= {"Tuning job", "Training job", "Run in Kubeflow Pipelines"}


GATE_MISSED = {"Error": "GateNotMet", "Cause": json.dumps({"errorMessage": "The accuracy is 0.1."})}


def missed_report(smoke_tested, gates):
    """Hold a real model against gates that it misses; return the error and the report."""
    s3 = MemoryS3()
    s3.objects = dict(smoke_tested[0].objects)
    train = Split(*digit_splits()[0])
    with pytest.raises(GateNotMet) as caught:
        run_smoke_test(plan(smoke_test=gates), s3, DigitsEndpoint(train.images))
    failed = state(plan=plan(smoke_test=gates), failure=GATE_MISSED)
    return str(caught.value), *write(s3, failed, succeeded_history())[1:]


def test_a_missed_gate_s_report_has_the_predictions(smoke_tested):
    gates = {"min_accuracy": 0.999, "max_p95_ms": 0, "rows": 100}
    _, document, page = missed_report(smoke_tested, gates)
    assert [gate["met"] for gate in document["gates"]] == [False, False]
    assert Text(page).text.count("✕ missed") == 2
    assert Text(page).tags.count("img") == 11


def test_a_gate_that_is_missed_by_less_than_is_shown_is_missed_in_the_report_too(smoke_tested):
    # Eight of the eleven measured rows are right, which is 0.7273 only when it is rounded.
    gates = {**GATES, "rows": 22, "min_accuracy": 0.7273}
    error, document, page = missed_report(smoke_tested, gates)
    assert document["smoke_test"]["accuracy"] == 0.7273
    assert [gate["met"] for gate in document["gates"]] == [False, True]
    assert error == "The accuracy is 0.72727, the gate asks for 0.7273 or more."
    assert "Accuracy at least 0.7273 0.72727 ✕ missed" in Text(page).text


@pytest.mark.parametrize(
    ("measured", "gate", "digits", "shown"),
    [
        (0.5, 0.45, 4, "0.5000"),
        (8 / 11, 0.7273, 4, "0.72727"),
        (0.7273, 0.7273, 4, "0.7273"),
        (2000.04, 2000.0, 1, "2000.04"),
        (0.1 + 0.2, 0.3, 4, "0.30000000000000004"),
    ],
)
def test_a_figure_looks_like_its_gate_only_if_it_is_that(measured, gate, digits, shown):
    assert told_apart(measured, gate, digits) == shown


def test_fewer_digits_than_ten_are_not_called_ten(smoke_tested):
    s3, _ = smoke_tested
    few = MemoryS3()
    few.objects = dict(s3.objects)
    key = BUCKET, f"runs/{RUN_ID}/input/valid_data.csv"
    few.objects[key] = b"\n".join(s3.objects[key].splitlines()[:6]) + b"\n"
    labels = BUCKET, f"runs/{RUN_ID}/data/valid_labels.json"
    few.objects[labels] = json.dumps({"labels": json.loads(s3.objects[labels])["labels"][:6]}).encode()
    summary = run_smoke_test(plan(smoke_test={**GATES, "min_accuracy": 0}), few, DigitsEndpoint(digit_splits()[0][0]))
    _, _, page = write(few, state(smoke_test=summary), succeeded_history())
    assert "3 held-out digits" in Text(page).text


def test_a_refused_input_s_report_lies_where_the_run_would_have_been():
    failure = {"Error": "InvalidInput", "Cause": json.dumps({"errorMessage": "3 problems: k; datset; after."})}
    refused = {"plan": None, "smoke_test": None, "failure": failure, "receipt": receipt(items=[], kept=[])}
    verdict, document, page = write(MemoryS3(), {**refused, "clean_up_failure": None})
    run_id = run_id_for(EXECUTION["id"], int(STARTED.timestamp()))
    assert verdict["report"] == f"s3://{BUCKET}/runs/{run_id}/report/report.html"
    assert document["run"]["run_id"] == run_id
    assert "3 problems: k; datset; after." in Text(page).text
    assert "refused before a data set was looked at" in Text(page).text


STEPS = ["data", "pipeline_run", "outcomes", "smoke_test", "failure", "receipt", "clean_up_failure"]


@pytest.mark.parametrize("missing", [STEPS[at:] for at in range(len(STEPS))] + [[step] for step in STEPS])
@pytest.mark.parametrize("how", ["absent", "null"])
def test_every_partial_state_has_a_report(missing, how):
    failure = {"Error": "DeadlineExceeded", "Cause": "late"}
    partial = state(failure=failure, clean_up_failure={"Error": "NotGoneYet", "Cause": "still there"})
    for name in missing:
        partial[name] = None
        if how == "absent":
            del partial[name]
    verdict, document, page = write(MemoryS3(), partial)
    assert verdict["status"] == "FAILED"
    assert Text(page).text.count(document["cause"].split(".")[0]) >= 1


def test_an_endpoint_that_is_kept_is_said_to_go_on_costing():
    items = [{**i, "action": "kept"} if i["kind"] == "endpoint" else i for i in receipt()["items"]]
    _, document, page = write(MemoryS3(), state(receipt=receipt(items=items)), succeeded_history())
    assert "the endpoint is kept and goes on costing" in Text(page).text
    assert f"#/endpoints/{RUN_ID}-endpoint" in page
    (driver,) = [driver for driver in document["cost_drivers"] if driver["what"] == "Endpoint"]
    assert driver["seconds"] == 881 - 812


def test_an_endpoint_that_failed_was_never_in_service():
    _, document, page = write(
        MemoryS3(), state(failure={"Error": "JobFailed", "Cause": "x"}), endpoint_history("Failed")
    )
    (driver,) = [driver for driver in document["cost_drivers"] if driver["what"] == "Endpoint"]
    assert driver["seconds"] is None
    assert "it was never seen InService" in driver["basis"]
    assert "from InService until" not in Text(page).text
    _, document, _ = write(MemoryS3(), state(), endpoint_history("Succeeded"))
    (driver,) = [driver for driver in document["cost_drivers"] if driver["what"] == "Endpoint"]
    assert driver["seconds"] == 20


def endpoint_history(how):
    history = History()
    history.add(0, "ExecutionStarted")
    entered = history.enter(0, "Watch", "Parallel")
    forked = history.add(0, "ParallelStateStarted", entered)
    history.enter(0, "Await endpoint", previous=forked)
    history.add(0, "TaskScheduled")
    last = history.add(60, f"Task{how}")
    if how == "Succeeded":
        last = history.leave(60, "Await endpoint", previous=last)
    last = history.add(60, f"ParallelState{how}", last)
    history.leave(60, "Watch", "Parallel", previous=last)
    history.task(60, 80, "Clean up")
    return history.events


def test_everything_that_others_wrote_is_escaped():
    evil = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'"
    evil_plan = plan(pipeline=evil, parameters={evil: evil})
    evil_run = {"id": evil, "url": "javascript:alert(3)"}
    failure = {"Error": evil, "Cause": evil}
    evil_receipt = receipt(kept=[evil], cause={"error": evil, "cause": evil})
    _, _, page = write(
        MemoryS3(),
        state(plan=evil_plan, pipeline_run=evil_run, failure=failure, receipt=evil_receipt),
        failed_history(),
    )
    read = Text(page)
    assert "script" not in read.tags
    assert "img" not in read.tags
    assert not any(address.startswith("javascript") for address in read.addresses)
    assert evil in read.text


def test_a_history_that_may_not_be_read_costs_the_timeline_and_the_log_says_so(caplog):
    message = "not authorized to perform: states:GetExecutionHistory"
    denied = ClientError({"Error": {"Code": "AccessDeniedException", "Message": message}}, "GetExecutionHistory")
    verdict, document, page = write(MemoryS3(), state(), error=denied)
    assert verdict["status"] == "SUCCEEDED"
    assert document["timeline"] is None
    assert "Timeline" not in Text(page).text
    assert warned_of(caplog, message)
    throttled = ClientError({"Error": {"Code": "ThrottlingException", "Message": "no"}}, "GetExecutionHistory")
    with pytest.raises(ClientError):
        write(MemoryS3(), state(), error=throttled)


def spans(events):
    return {span.name: span for span in Timeline(events).shown()}


def test_the_timeline_of_a_good_run():
    timeline = Timeline(succeeded_history())
    found = spans(succeeded_history())
    assert (timeline.transitions, timeline.retries) == (14, 1)
    assert {name: span.depth for name, span in found.items() if span.depth} == {
        "Await pipeline run": 1,
        "Await tuning": 1,
        "Await training": 1,
        "Watch deployment": 1,
        "Await transform": 2,
        "Await endpoint": 2,
    }
    assert {span.outcome for name, span in found.items() if name != "Write report"} == {"succeeded"}
    assert found["Write report"].outcome == "going"
    assert found["Launch pipeline"].attempts == 2
    assert timeline.seconds("Await tuning") == pytest.approx(509.8)
    assert timeline.seconds("Nothing of this name") is None
    assert "Is there an endpoint?" not in found


def test_the_timeline_of_a_failed_run():
    found = spans(failed_history())
    assert {name: span.outcome for name, span in found.items()} == {
        "Plan run": "succeeded",
        "Prepare data": "succeeded",
        "Launch pipeline": "succeeded",
        "Watch": "failed",
        "Await pipeline run": "aborted",
        "Await tuning": "succeeded",
        "Await training": "failed",
        "Clean up": "succeeded",
        "Write report": "going",
    }
    assert found["Await pipeline run"].ended == found["Watch"].ended
    assert (found["Await training"].ended - found["Await training"].started).total_seconds() == 55


def unpack_png(address: str):
    content = base64.b64decode(address.removeprefix("data:image/png;base64,"))
    width, height, depth, colour = struct.unpack(">IIBB", content[16:26])
    assert (depth, colour) == (8, 4)
    length = struct.unpack(">I", content[33:37])[0]
    lines = np.frombuffer(zlib.decompress(content[41 : 41 + length]), np.uint8).reshape(height, 1 + 2 * width)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(height, width, 2)


def test_a_digit_is_its_pixels_as_ink():
    pixels = np.linspace(0, 0.5, 784)
    picture = unpack_png(digit_png(pixels.tolist()))
    np.testing.assert_array_equal(picture[:, :, 1].ravel(), np.round(pixels / 0.5 * 255))
    assert not picture[:, :, 0].any()


@pytest.mark.parametrize(("pixels", "side"), [([1.0] * 9, 3), ([0.0], 1)])
def test_a_digit_without_contrast_is_an_empty_picture(pixels, side):
    assert not unpack_png(digit_png(pixels)).any()
    assert unpack_png(digit_png(pixels)).shape == (side, side, 2)


@pytest.mark.parametrize("pixels", [[], [1.0] * 10])
def test_a_row_that_is_no_square_has_no_picture(pixels):
    assert digit_png(pixels) is None


@pytest.mark.parametrize(
    ("partition", "host"),
    [("aws", "eu-west-1.console.aws.amazon.com"), ("aws-cn", "eu-west-1.console.amazonaws.cn"), ("aws-iso", None)],
)
def test_links_lead_to_the_partition_s_console(partition, host):
    console = Console(partition, "eu-west-1")
    addresses = [
        console.execution("arn:aws:states:eu-west-1:1:execution:a:b"),
        console.sagemaker("training", "bt-x-train"),
        console.s3("s3://bucket/runs/x/"),
    ]
    if host is None:
        assert addresses == [None] * 3
    else:
        assert all(address.startswith(f"https://{host}/") for address in addresses)
        assert addresses[1].endswith("#/jobs/bt-x-train")
        assert addresses[2].endswith("s3/buckets/bucket?region=eu-west-1&prefix=runs/x/")


def test_only_web_addresses_are_linked_to():
    assert web_address("https://kfp.example/#/runs") == "https://kfp.example/#/runs"
    assert web_address("javascript:alert(1)") is web_address(None) is web_address("") is None


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (duration(None), "\N{EN DASH}"),
        (duration(0.4), "0.40 s"),
        (duration(59.4), "59 s"),
        (duration(185), "3 min 05 s"),
        (duration(7800), "2 h 10 min"),
        (moment("2026-01-02T03:04:05+00:00"), "2 January 2026, 03:04:05"),
        (number(50000), "50,000"),
        (number(0.123456), "0.1235"),
        (number(True), "yes"),
        (number("text"), "text"),
        (size(999), "999 bytes"),
        (size(17051982), "17.1 MB"),
    ],
)
def test_figures_are_written_for_people(made, expected):
    assert made == expected
