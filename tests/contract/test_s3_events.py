"""The committed S3 events: their form, which of them the template's rule lets through, and what each one starts."""

import io
import json

import pytest
import yaml

from baton.errors import UploadRefused
from baton.uploads import NotAnUpload, Upload, Uploads
from baton_local.patterns import matches
from tests.support.starting import BUCKET, ROOT, catalogue, event, settings_of

EXPECTED = {
    "object_created": "starts",
    "object_created_by_a_run": "nothing",
    "object_created_empty": "refused",
    "object_created_folder": "refused",
    "object_created_foreign_bucket": "refused",
    "object_created_multipart": "starts",
    "object_created_nested": "refused",
    "object_created_no_pipeline": "refused",
    "object_created_other_json": "nothing",
    "object_created_oversized": "refused",
    "object_created_run_json": "starts",
    "object_created_same_bytes_again": "starts",
    "object_created_unknown_pipeline": "refused",
    "object_created_unversioned": "starts",
    "object_created_wrong_suffix": "refused",
    "object_deleted": "refused",
}
NOT_FOR_THE_RULE = {"object_created_by_a_run", "object_created_foreign_bucket", "object_deleted"}


class _Template(yaml.SafeLoader):
    """Reads a template's intrinsic functions for a stack that makes its bucket: ``!If`` is its first choice."""


def _intrinsic(loader, suffix, node):
    if suffix == "Ref" and node.value in ("RunBucket", "UploadPrefix"):
        return {"RunBucket": BUCKET, "UploadPrefix": "uploads/"}[node.value]
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        values = loader.construct_sequence(node, deep=True)
        return values[1] if suffix == "If" else values
    return loader.construct_mapping(node, deep=True)


_Template.add_multi_constructor("!", _intrinsic)


@pytest.fixture(scope="module")
def pattern():
    template = yaml.load((ROOT / "template.yaml").read_text(), _Template)
    return template["Resources"]["UploadRule"]["Properties"]["EventPattern"]


class Started:
    def __init__(self):
        self.inputs = []

    def start_execution(self, stateMachineArn, name, input):
        self.inputs.append(json.loads(input))
        return {"executionArn": f"arn:{name}"}


class OneRunFile:
    def get_object(self, **_):
        return {"Body": io.BytesIO(b"{}")}


def becomes_of(content):
    started = Started()
    uploads = Uploads(catalogue(), OneRunFile(), started, None, settings_of())
    try:
        uploads.start(Upload.read(content))
    except UploadRefused:
        return "refused", started.inputs
    except NotAnUpload:
        return "nothing", started.inputs
    return "starts", started.inputs


def test_every_committed_event_is_expected_here():
    assert {path.stem.removeprefix("s3_") for path in (ROOT / "events").glob("s3_*.json")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_each_event_has_the_form_of_s3s(name):
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/ev-events.html
    content = event(name)
    envelope = {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"}
    assert set(content) == envelope
    detail = content["detail"]
    assert content["resources"] == [f"arn:aws:s3:::{detail['bucket']['name']}"]
    assert {"version", "bucket", "object", "request-id", "requester", "reason"} <= set(detail)
    created = {"size", "etag"} if content["detail-type"] == "Object Created" else set()
    assert {"key", "sequencer"} | created <= set(detail["object"])


@pytest.mark.parametrize("name", EXPECTED)
def test_each_event_becomes_what_it_should(name):
    what, inputs = becomes_of(event(name))
    assert what == EXPECTED[name]
    assert len(inputs) == (1 if what == "starts" else 0)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_rule_lets_through_what_was_created_under_uploads(pattern, name):
    assert matches(pattern, event(name)) == (name not in NOT_FOR_THE_RULE)


def test_no_two_events_have_one_id_unless_they_are_one_event():
    ids = [event(name)["id"] for name in EXPECTED if name != "object_created_unversioned"]
    assert len(set(ids)) == len(ids)
