"""What an uploaded object starts: one execution, or nothing and a reason."""

import io
import json
import re

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from baton.errors import UploadRefused
from baton.uploads import MAX_RUN_FILE_BYTES, NotAnUpload, Upload, Uploads
from tests.support.starting import BUCKET, MACHINE, catalogue, client_error, event, settings_of

PACKAGED = catalogue()


class StepFunctions:
    """Knows executions by name, as Step Functions does: the same name is the same execution, or an error."""

    def __init__(self):
        self.executions = {}
        self.ended = set()

    def start_execution(self, stateMachineArn, name, input):
        assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", name)
        known = self.executions.setdefault(name, input)
        if known != input or name in self.ended:
            raise client_error("ExecutionAlreadyExists", 400, "StartExecution")
        return {"executionArn": f"{stateMachineArn.replace(':stateMachine:', ':execution:')}:{name}"}


class Objects:
    def __init__(self):
        self.content = b"{}"
        self.requests = []
        self.fails_with = None

    def get_object(self, **request):
        self.requests.append(request)
        if self.fails_with:
            raise self.fails_with
        return {"Body": io.BytesIO(self.content)}


class Topic:
    def __init__(self):
        self.messages = []

    def publish(self, **message):
        self.messages.append(message)


class World:
    def __init__(self, **changes):
        self.s3, self.stepfunctions, self.topic = Objects(), StepFunctions(), Topic()
        self.uploads = Uploads(PACKAGED, self.s3, self.stepfunctions, self.topic, settings_of(**changes))

    def start(self, name):
        return self.uploads.start(Upload.read(event(name)))

    @property
    def inputs(self):
        return [json.loads(text) for text in self.stepfunctions.executions.values()]


@pytest.fixture
def world():
    return World()


def upload(key="uploads/mnist_kmeans/mnist.pkl.gz", **changes):
    values = {"bucket": BUCKET, "key": key, "version_id": "v", "sequencer": "1", "size": 10, "etag": "e"}
    return Upload(**{**values, **changes})


def test_uploads_are_under_the_stacks_own_prefix():
    world = World(upload_prefix="in/of-mine/")
    world.uploads.start(upload("in/of-mine/mnist_kmeans/mnist.pkl.gz"))
    assert [content["dataset"] for content in world.inputs] == [f"s3://{BUCKET}/in/of-mine/mnist_kmeans/mnist.pkl.gz"]
    with pytest.raises(UploadRefused, match="not of the form in/of-mine/PIPELINE/FILE"):
        world.uploads.start(upload("uploads/mnist_kmeans/mnist.pkl.gz"))


def test_a_data_set_starts_an_execution_with_its_very_version(world):
    arn = world.start("object_created")
    assert arn.startswith(MACHINE.replace("stateMachine", "execution") + ":mnist_kmeans-")
    assert world.inputs == [
        {
            "pipeline": "mnist_kmeans",
            "dataset": f"s3://{BUCKET}/uploads/mnist_kmeans/mnist.pkl.gz",
            "dataset_version": "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e",
        }
    ]


def test_a_redelivered_event_starts_nothing_new(world):
    first = world.start("object_created")
    assert world.start("object_created") == first
    assert len(world.inputs) == 1


def test_a_redelivery_after_the_execution_ended_starts_nothing_new(world):
    first = world.start("object_created")
    world.stepfunctions.ended.update(world.stepfunctions.executions)
    assert world.start("object_created") == first


def test_the_same_bytes_uploaded_again_are_another_run(world):
    assert world.start("object_created") != world.start("object_created_same_bytes_again")
    assert len(world.inputs) == 2


def test_without_versions_the_sequencer_tells_uploads_apart(world):
    world.start("object_created_unversioned")
    assert "dataset_version" not in world.inputs[0]
    names = {upload(version_id=None, sequencer=s).execution_name("p") for s in ("1", "2", "2")}
    assert len(names) == 2


def test_the_version_id_null_is_no_version():
    content = event("object_created")
    content["detail"]["object"]["version-id"] = "null"
    assert Upload.read(content).version_id is None


def test_with_a_version_the_sequencer_does_not_matter():
    assert upload(sequencer="1").execution_name("p") == upload(sequencer="2").execution_name("p")


def test_a_multipart_upload_starts_a_run(world):
    world.start("object_created_multipart")
    assert world.inputs[0]["dataset"].endswith("/mnist.pkl")


@given(st.text(min_size=1, max_size=200), st.text(min_size=1, max_size=60))
def test_execution_names_are_always_allowed(key, pipeline):
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,80}", upload(key).execution_name(pipeline))


def test_the_parts_of_an_identity_cannot_run_into_each_other():
    one = upload("uploads/a", bucket="b", version_id="c").execution_name("p")
    assert one != upload("uploads/", bucket="b", version_id="ac").execution_name("p")


def test_a_run_file_starts_a_run_with_its_content(world):
    world.s3.content = json.dumps({"dataset": "s3://x/y.pkl", "parameters": {"k": 7}}).encode()
    world.start("object_created_run_json")
    assert world.inputs == [{"pipeline": "mnist_kmeans", "dataset": "s3://x/y.pkl", "parameters": {"k": 7}}]
    assert world.s3.requests[0]["VersionId"] == "R0nJs0n.V3rs10n1dR0nJs0n.V3rs10n"


def test_a_run_file_is_read_as_it_was_when_its_event_was_made(world):
    world.s3.fails_with = client_error("PreconditionFailed", 412)
    with pytest.raises(UploadRefused, match="deleted or replaced"):
        world.uploads.start(upload("uploads/mnist_kmeans/run.json", version_id=None))
    assert world.s3.requests[0]["IfMatch"] == '"e"'
    assert world.inputs == []


def test_an_s3_that_fails_is_no_refusal(world):
    world.s3.fails_with = client_error("SlowDown", 503)
    with pytest.raises(ClientError):
        world.start("object_created_run_json")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[1]", "not an object"),
        (b"nope", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b"[" * 60_000, "not JSON"),
        (b'{"deadline_seconds": 1e999}', "a number that is too large"),
        (b'{"parameters": {"k": [-1e999]}}', "a number that is too large"),
        (b'{"pipeline": "other"}', "names the pipeline 'other'"),
        (b'{"pipeline": 7}', "names the pipeline 7"),
        (b" " * (MAX_RUN_FILE_BYTES + 1), "more than"),
    ],
)
def test_a_wrong_run_file_is_refused(world, content, reason):
    world.s3.content = content
    with pytest.raises(UploadRefused, match=reason):
        world.start("object_created_run_json")
    assert world.inputs == []


def test_a_run_file_whose_pipeline_is_null_names_none(world):
    world.s3.content = b'{"pipeline": null}'
    world.start("object_created_run_json")
    assert world.inputs == [{"pipeline": "mnist_kmeans"}]


@pytest.mark.parametrize("size", [0, MAX_RUN_FILE_BYTES + 1])
def test_an_empty_or_oversized_run_file_is_not_even_read(world, size):
    with pytest.raises(UploadRefused, match=f"It has {size} bytes"):
        world.uploads.start(upload("uploads/mnist_kmeans/run.json", size=size))
    assert world.s3.requests == []


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("object_created_empty", "It has 0 bytes"),
        ("object_created_oversized", "It has 5368709120 bytes"),
        ("object_created_folder", "It is a folder"),
        ("object_created_nested", "right into uploads/mnist_kmeans/"),
        ("object_created_no_pipeline", "The key is not of the form uploads/PIPELINE/FILE"),
        ("object_created_unknown_pipeline", "perhaps 'mnist_kmeans' is meant"),
        ("object_created_wrong_suffix", r"ends in \.pkl or \.pkl\.gz"),
        ("object_created_foreign_bucket", "not the run bucket"),
        ("object_deleted", "not S3's Object Created"),
    ],
)
def test_what_starts_no_run_is_refused_with_a_reason(world, name, reason):
    with pytest.raises(UploadRefused, match=reason):
        world.start(name)
    assert world.inputs == []


@pytest.mark.parametrize("key", ["elsewhere/mnist_kmeans/a.pkl", "uploads", "uploadsx/mnist_kmeans/a.pkl", "a.pkl"])
def test_a_foreign_key_is_refused(world, key):
    with pytest.raises(UploadRefused):
        world.uploads.start(upload(key))


@pytest.mark.parametrize("name", ["object_created_other_json", "object_created_by_a_run"])
def test_some_objects_start_nothing_and_are_no_mistake(world, name):
    with pytest.raises(NotAnUpload):
        world.start(name)
    assert world.inputs == []


@pytest.mark.parametrize(
    "content",
    [
        {},
        [],
        None,
        "text",
        {"source": "aws.s3", "detail-type": "Object Created", "detail": {}},
        {"source": "aws.s3", "detail-type": "Object Created", "detail": {"bucket": {"name": "b"}, "object": "x"}},
        {"source": "others", "detail-type": "Object Created"},
    ],
)
def test_an_event_that_is_not_s3s_is_refused(content):
    with pytest.raises(UploadRefused):
        Upload.read(content)


def test_a_step_functions_that_fails_is_no_refusal(world):
    def fail(**_):
        raise client_error("ThrottlingException", 400)

    world.stepfunctions.start_execution = fail
    with pytest.raises(ClientError):
        world.start("object_created")


def test_the_topic_is_told_what_was_refused_and_why(world):
    world.uploads.tell_of_refusal(upload("uploads/x/ü.pkl"), "There is no pipeline 'x'.")
    (message,) = world.topic.messages
    assert message["TopicArn"] == settings_of().topic_arn
    assert message["Subject"] == "Baton refused an upload"
    assert f"s3://{BUCKET}/uploads/x/ü.pkl" in message["Message"]
    assert "There is no pipeline 'x'." in message["Message"]


def test_the_input_is_the_same_bytes_whatever_the_order_of_fields(world):
    one, other = World(), World()
    one.s3.content, other.s3.content = b'{"a": 1, "b": 2}', b'{"b":2,"a":1}'
    one.start("object_created_run_json")
    other.start("object_created_run_json")
    assert one.stepfunctions.executions == other.stepfunctions.executions
