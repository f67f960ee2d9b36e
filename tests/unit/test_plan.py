"""Planning a run: what an input may say, what it must not, and what comes out."""

import json
import re
from dataclasses import replace

import pytest
from botocore.exceptions import ClientError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from baton.catalogue import Catalogue
from baton.errors import AccessDenied, InvalidInput, RunEnded
from baton.names import run_id_for
from baton.payloads import plan_of
from baton.plan import Execution, Planner
from baton.runs import Runs
from baton.verdict import verdict_of
from tests.support.aws_models import values_of
from tests.support.memory import MemoryItems
from tests.support.starting import BUCKET, EXECUTION, STARTED, HeadsOf, catalogue, client_error, settings_of

KEY = "uploads/mnist_kmeans/mnist.pkl.gz"
URI = f"s3://{BUCKET}/{KEY}"
PACKAGED = catalogue()
OWN_IMAGE = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/kmeans:2"
IMAGE_FORM = "an image's URI, ACCOUNT.dkr.ecr.eu-west-1.amazonaws.com/kmeans:TAG"


class World:
    def __init__(self, packaged=PACKAGED, **changes):
        self.s3 = HeadsOf({(BUCKET, KEY): (17_051_982, "v1"), ("shared-datasets", "a.pkl"): (5, None)})
        self.runs = Runs(MemoryItems(lambda: STARTED + 1))
        self.planner = Planner(packaged, self.s3, self.runs, settings_of(**changes))

    def plan(self, content, execution=EXECUTION):
        return self.planner.plan(content, execution)

    def problems(self, content):
        with pytest.raises(InvalidInput) as error:
            self.plan(content)
        text = str(error.value)
        return [line.removeprefix("- ") for line in text.split("\n")[1:]] or [text.split(": ", 1)[1].rstrip(".")]


@pytest.fixture
def world():
    return World()


def two_pipelines():
    pipeline = PACKAGED.get("mnist_kmeans")
    return World(Catalogue({"a": replace(pipeline, name="a"), "b": replace(pipeline, name="b")}))


def with_default_dataset():
    pipeline = PACKAGED.get("mnist_kmeans")
    return Catalogue({"mnist_kmeans": replace(pipeline, dataset=f"s3://{{bucket}}/{KEY}")})


def test_a_plan_has_everything_that_the_contract_names(world):
    plan = world.plan({"dataset": URI})
    run_id = run_id_for(EXECUTION.arn, STARTED)
    assert plan["run_id"] == run_id
    assert plan["execution_arn"] == EXECUTION.arn
    assert plan["pipeline"] == "mnist_kmeans"
    assert (plan["created_at"], plan["deadline_at"]) == (STARTED, STARTED + 21600)
    assert plan["deadline"] == "2026-03-01T15:30:00Z"
    assert plan["heartbeat_seconds"] == 900
    assert plan["dataset"] == {"uri": URI, "bucket": BUCKET, "key": KEY, "version_id": "v1", "bytes": 17_051_982}
    assert plan["parameters"]["k"] == 10
    assert set(plan["parameters"]) == set(PACKAGED.get("mnist_kmeans").parameters)
    assert plan["smoke_test"] == {"min_accuracy": 0.45, "max_p95_ms": 2000.0, "rows": 500}
    assert plan["after"] == {"endpoint": "delete", "hold_seconds": 0}
    assert plan["stages"] == {"tuning": True, "training": True, "transform": True, "endpoint": True}
    assert plan["names"]["tuning"] == f"{run_id}-tune"
    assert plan["uris"]["report"] == f"s3://{BUCKET}/runs/{run_id}/report/report.html"
    assert plan["images"] == {
        "training": "438346466558.dkr.ecr.eu-west-1.amazonaws.com/kmeans:1",
        "steps": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/baton-steps:0.1.0",
    }
    assert (plan["role_arn"], plan["kms_key_arn"]) == ("arn:aws:iam::123456789012:role/sagemaker", None)
    assert plan["tags"] == {
        "baton:run-id": run_id,
        "baton:execution-arn": EXECUTION.arn,
        "baton:pipeline": "mnist_kmeans",
        "baton:expires-at": "2026-03-01T16:30:00Z",
    }
    assert json.loads(json.dumps(plan, allow_nan=False)) == plan
    assert plan_of({"plan": plan}) == plan


def test_an_empty_input_is_enough_where_there_is_a_default_data_set():
    assert World(with_default_dataset()).plan({})["dataset"]["uri"] == URI


def test_an_empty_input_takes_the_pipelines_default_data_set(world):
    assert world.plan({})["dataset"]["key"] == "uploads/mnist_kmeans/mnist.pkl.gz"


def test_the_default_data_set_is_where_this_stacks_uploads_are():
    world = World(upload_prefix="in/of-mine/")
    key = "in/of-mine/mnist_kmeans/mnist.pkl.gz"
    world.s3 = world.planner._s3 = HeadsOf({(BUCKET, key): (17_051_982, "v1")})
    assert world.plan({})["dataset"]["key"] == key


def test_the_consoles_comment_is_ignored(world):
    comment = {"Comment": "Insert your JSON here", "dataset": URI}
    assert world.plan(comment) == World().plan({"dataset": URI})


def test_every_field_can_be_overridden(world):
    plan = world.plan(
        {
            "pipeline": "mnist_kmeans",
            "dataset": URI,
            "dataset_version": "v1",
            "parameters": {"k": 12, "spot_instances": True, "training_image": OWN_IMAGE},
            "smoke_test": {"min_accuracy": 1, "rows": 20},
            "after": {"endpoint": "hold", "hold_seconds": 60},
            "deadline_seconds": 3600,
        }
    )
    assert plan["parameters"]["k"] == 12
    assert plan["parameters"]["spot_instances"] is True
    assert "training_image" not in plan["parameters"]
    assert plan["images"]["training"] == OWN_IMAGE
    assert plan["smoke_test"] == {"min_accuracy": 1.0, "max_p95_ms": 2000.0, "rows": 20}
    assert plan["after"] == {"endpoint": "hold", "hold_seconds": 60}
    assert plan["deadline_at"] == STARTED + 3600
    assert plan["tags"]["baton:expires-at"] == "2026-03-01T11:31:00Z"
    assert world.s3.asked == [{"Bucket": BUCKET, "Key": KEY, "VersionId": "v1"}]


@pytest.mark.parametrize("content", [[], "text", 7, None, True])
def test_an_input_that_is_no_object_is_refused(world, content):
    with pytest.raises(InvalidInput, match="must be an object"):
        world.plan(content)


WRONG = [
    ({"datset": URI, "dataset": URI}, "datset: there is no such field; perhaps 'dataset' is meant"),
    ({"comment": "", "dataset": URI}, "comment: there is no such field; perhaps 'Comment' is meant"),
    ({"pipeline": "mnist_kmean"}, "pipeline: there is no pipeline 'mnist_kmean'; perhaps 'mnist_kmeans' is meant"),
    ({"pipeline": 7}, "pipeline: there is no pipeline 7; there are: mnist_kmeans"),
    ({"parameters": [], "dataset": URI}, "parameters: must be an object, not []"),
    ({"parameters": {"kk": 1}, "dataset": URI}, "parameters.kk: there is no such field; perhaps 'k' is meant"),
    (
        {"parameters": {"k": "ten"}, "dataset": URI},
        "parameters.k: must be a whole number from 2 to 1000, not 'ten'",
    ),
    ({"parameters": {"k": 1}, "dataset": URI}, "parameters.k: must be a whole number from 2 to 1000, not 1"),
    ({"parameters": {"k": True}, "dataset": URI}, "parameters.k: must be a whole number from 2 to 1000, not true"),
    (
        {"parameters": {"training_instance_type": "banana"}, "dataset": URI},
        "parameters.training_instance_type: must be of the form ml.<family>.<size>, not 'banana'",
    ),
    (
        {"parameters": {"mini_batch_size_min": 700}, "dataset": URI},
        "parameters.mini_batch_size_min: must be at most mini_batch_size_max, which is 600, not 700",
    ),
    (
        {"parameters": {"extra_center_factor_max": 5}, "dataset": URI},
        "parameters.extra_center_factor_min: must be at most extra_center_factor_max, which is 5, not 10",
    ),
    (
        {"parameters": {"transform_max_concurrent": 20}, "dataset": URI},
        "parameters.transform_max_payload_mb: times transform_max_concurrent, which is 20, must be at most 100, "
        "and is 120",
    ),
    (
        {"parameters": {"tuning_strategy": "Grid"}, "dataset": URI},
        "parameters.tuning_strategy: must be one of 'Bayesian', 'Random', not 'Grid'",
    ),
    (
        {"parameters": {"training_image": "https://x"}, "dataset": URI},
        f"parameters.training_image: must be {IMAGE_FORM}, not 'https://x'",
    ),
    (
        {"smoke_test": {"min_accuracy": 1.5}, "dataset": URI},
        "smoke_test.min_accuracy: must be a number from 0 to 1, not 1.5",
    ),
    (
        {"after": {"endpoint": "burn"}, "dataset": URI},
        "after.endpoint: must be one of 'delete', 'keep', 'hold', not 'burn'",
    ),
    (
        {"after": {"endpoint": "keep", "hold_seconds": 5}, "dataset": URI},
        'after.hold_seconds: goes with "endpoint": "hold" only, not with \'keep\'',
    ),
    (
        {"after": {"hold_seconds": 5}, "dataset": URI},
        'after.hold_seconds: goes with "endpoint": "hold" only, not with \'delete\', the default',
    ),
    (
        {"after": {"endpoint": "Hold", "hold_seconds": 60}, "dataset": URI},
        "after.endpoint: must be one of 'delete', 'keep', 'hold', not 'Hold'",
    ),
    (
        {"after": {"endpoint": "hold", "hold_seconds": 0}, "dataset": URI},
        "after.hold_seconds: must be a whole number from 1 to 2592000, not 0",
    ),
    ({"deadline_seconds": 59, "dataset": URI}, "deadline_seconds: must be a whole number from 60 to 28512000, not 59"),
    (
        {"deadline_seconds": "1h", "dataset": URI},
        "deadline_seconds: must be a whole number from 60 to 28512000, not '1h'",
    ),
    (
        {"deadline_seconds": 31536000, "dataset": URI},
        "deadline_seconds: must be a whole number from 60 to 28512000, not 31536000",
    ),
    ({"dataset": "mnist.pkl"}, "dataset: must be of the form s3://bucket/key, not 'mnist.pkl'"),
    ({"dataset": ["s3://a/b"]}, 'dataset: must be of the form s3://bucket/key, not ["s3://a/b"]'),
    (
        {"dataset": "s3://others/mnist.pkl"},
        f"dataset: the bucket others is not allowed; data sets come from {BUCKET}, shared-datasets",
    ),
    (
        {"dataset": f"s3://{BUCKET}/mnist.csv"},
        "dataset: the key must end in .pkl or .pkl.gz for the pipeline mnist_kmeans",
    ),
    ({"dataset": f"s3://{BUCKET}/no.pkl"}, f"dataset: s3://{BUCKET}/no.pkl does not exist"),
    ({"dataset": URI, "dataset_version": "v0"}, f"dataset: the version v0 of {URI} does not exist"),
    (
        {"dataset": URI, "dataset_version": 7},
        "dataset_version: must be the version id of an S3 object, not 7",
    ),
]


@pytest.mark.parametrize(("content", "problem"), WRONG)
def test_a_wrong_field_is_told_with_what_would_be_right(world, content, problem):
    assert world.problems(content) == [problem]
    assert world.runs.all() == []


def test_null_counts_as_absent_in_every_field(world):
    nothing = {
        "pipeline": None,
        "dataset": None,
        "dataset_version": None,
        "parameters": {"k": None, "training_image": None},
        "smoke_test": None,
        "after": {"endpoint": None, "hold_seconds": None},
        "deadline_seconds": None,
    }
    assert world.plan(nothing) == World().plan({})


def test_a_pipeline_without_a_default_data_set_needs_one():
    pipeline = replace(PACKAGED.get("mnist_kmeans"), dataset=None)
    world = World(Catalogue({"mnist_kmeans": pipeline}))
    for content in ({}, {"dataset": None}):
        assert world.problems(content) == [
            "dataset: is needed: the pipeline mnist_kmeans has no default; give s3://bucket/key"
        ]


@pytest.mark.parametrize("kind", ["ml.m5.large", "ml.p6e-gb200.36xlarge", "ml.m7i-flex.2xlarge", "ml.trn1.32xlarge"])
def test_every_form_of_instance_type_is_taken(world, kind):
    assert world.plan({"parameters": {"training_instance_type": kind}})["parameters"]["training_instance_type"] == kind


def test_every_instance_type_that_sagemaker_knows_is_taken():
    parameters = PACKAGED.get("mnist_kmeans").parameters
    shapes = {"training": "TrainingInstanceType", "transform": "TransformInstanceType",
              "endpoint": "ProductionVariantInstanceType"}  # fmt: skip
    for what, shape in shapes.items():
        types = values_of("sagemaker", shape)
        assert types
        assert [t for t in types if not parameters[f"{what}_instance_type"].accepts(t)] == []


def test_a_wrong_value_is_not_told_twice_by_a_rule_that_compares_it(world):
    content = {"parameters": {"mini_batch_size_min": "x", "mini_batch_size_max": 400}}
    assert world.problems(content) == ["parameters.mini_batch_size_min: must be a whole number from 1, not 'x'"]


def test_rules_over_two_parameters_are_told_with_all_other_problems(world):
    problems = world.problems(
        {"parameters": {"mini_batch_size_min": 700, "k": 1, "endpoint_instance_type": "m5"}, "colour": "red"}
    )
    assert sorted(problem.split(":", 1)[0] for problem in problems) == [
        "colour",
        "parameters.endpoint_instance_type",
        "parameters.k",
        "parameters.mini_batch_size_min",
    ]


@pytest.mark.parametrize(
    ("fate", "words"),
    [("Hold", "must be one of"), ("keep", 'goes with "endpoint": "hold" only')],
    ids=["wrong", "other"],
)
def test_a_hold_that_is_out_of_bounds_is_told_whatever_becomes_of_the_endpoint(world, fate, words):
    problems = world.problems({"dataset": URI, "after": {"endpoint": fate, "hold_seconds": -5}})
    assert any(words in problem for problem in problems)
    assert "after.hold_seconds: must be a whole number from 1 to 2592000, not -5" in problems
    assert len(problems) == 2


def test_all_problems_are_told_at_once(world):
    problems = world.problems(
        {
            "dataset": "s3://others/mnist.pkl",
            "parameters": {"k": 1, "nope": 2},
            "smoke_test": {"rows": 19},
            "after": {"endpoint": "burn", "hold": 1},
            "deadline_seconds": 1,
            "color": "red",
        }
    )
    wheres = [problem.split(":", 1)[0] for problem in problems]
    assert sorted(wheres) == [
        "after.endpoint",
        "after.hold",
        "color",
        "dataset",
        "deadline_seconds",
        "parameters.k",
        "parameters.nope",
        "smoke_test.rows",
    ]


EVERYTHING_WRONG = {
    "pipeline": "x",
    "dataset": "y",
    "dataset_version": 5,
    "parameters": {"k": "ten", "nope": 1, "training_image": "own:1"},
    "smoke_test": {"rows": 1, "bogus": 1},
    "after": 3,
    "deadline_seconds": 1,
    "colour": "red",
}


def test_an_unknown_pipeline_hides_no_other_problem_where_there_is_one_pipeline(world):
    problems = world.problems(EVERYTHING_WRONG)
    assert sorted(problem.split(":", 1)[0] for problem in problems) == [
        *("after", "colour", "dataset", "dataset_version", "deadline_seconds", "parameters.k", "parameters.nope"),
        *("parameters.training_image", "pipeline", "smoke_test.bogus", "smoke_test.rows"),
    ]


@pytest.mark.parametrize("pipeline", ["x", None])
def test_an_unknown_pipeline_of_several_hides_only_what_depends_on_it(pipeline):
    problems = two_pipelines().problems({**EVERYTHING_WRONG, "pipeline": pipeline})
    assert sorted(problem.split(":", 1)[0] for problem in problems) == [
        *("after", "colour", "dataset", "dataset_version", "deadline_seconds", "parameters.nope"),
        *("parameters.training_image", "pipeline", "smoke_test.bogus", "smoke_test.rows"),
    ]


def test_what_a_pipeline_of_several_may_take_is_no_problem_of_an_unknown_one():
    fine = {
        "dataset": URI,
        "dataset_version": "v1",
        "parameters": {"k": 5000, "training_image": OWN_IMAGE},
        "smoke_test": {"rows": 20},
        "after": {"endpoint": "keep"},
        "deadline_seconds": 60,
    }
    assert two_pipelines().problems(fine) == ["pipeline: is needed, because there are several: a, b"]
    wrong = two_pipelines().problems({"parameters": [1]})
    assert wrong[1:] == ["parameters: must be an object, not [1]"]


@pytest.mark.parametrize("size", [0, 268_435_457])
def test_an_empty_or_oversized_data_set_is_refused(world, size):
    world.s3.objects[BUCKET, KEY] = (size, "v1")
    assert world.problems({"dataset": URI}) == [f"dataset: {URI} has {size} bytes; it must have from 1 to 268435456"]


def test_the_data_set_is_pinned_to_the_version_that_was_seen(world):
    assert world.plan({"dataset": URI})["dataset"]["version_id"] == "v1"
    assert world.plan({"dataset": "s3://shared-datasets/a.pkl"})["dataset"]["version_id"] is None


def test_a_data_set_of_another_bucket_that_may_not_be_read_is_told(world):
    world.s3.fails_with = client_error("403", 403, "HeadObject")
    uri = "s3://shared-datasets/a.pkl"
    assert world.problems({"dataset": uri}) == [f"dataset: {uri} does not exist, or Baton may not read it"]


@pytest.mark.parametrize(
    ("version", "action"), [({}, "s3:GetObject"), ({"dataset_version": "v1"}, "s3:GetObjectVersion")]
)
def test_in_the_run_bucket_which_may_be_listed_a_refusal_is_no_problem_of_the_input(world, version, action):
    world.s3.fails_with = client_error("403", 403, "HeadObject")
    with pytest.raises(AccessDenied, match=f"is not authorized to perform: {action} on {re.escape(URI)}"):
        world.plan({"dataset": URI, **version})


def test_a_version_that_cannot_be_one_is_told(world):
    world.s3.fails_with = client_error("400", 400, "HeadObject")
    assert "does not exist" in world.problems({"dataset": URI, "dataset_version": "zzz"})[0]


def test_an_s3_that_fails_is_no_problem_of_the_input(world):
    world.s3.fails_with = client_error("503", 503, "HeadObject")
    with pytest.raises(ClientError):
        world.plan({"dataset": URI})


@pytest.mark.parametrize(
    ("deadline", "wanted", "planned"),
    [(21_600, 900, 900), (21_600, 9, 9), (21_600, 1, 9), (900, 8, 8), (28_512_000, 900, 11_405), (2_250_000, 900, 900)],
)
def test_a_long_deadline_lengthens_a_heartbeat_that_would_fill_the_execution_s_history(deadline, wanted, planned):
    world = World(heartbeat_seconds=wanted)
    plan = world.plan({"dataset": URI, "deadline_seconds": deadline})
    assert plan["heartbeat_seconds"] == planned
    events = 2 * 4 * deadline / planned
    assert events < 25_000


def test_the_heartbeat_is_never_longer_than_the_deadline(world):
    assert world.plan({"dataset": URI, "deadline_seconds": 120})["heartbeat_seconds"] == 120


def test_the_default_hold_is_the_pipelines(world):
    assert world.plan({"dataset": URI, "after": {"endpoint": "hold"}})["after"]["hold_seconds"] == 3600


def test_a_kept_endpoint_is_noted_in_the_run_row(world):
    plan = world.plan({"dataset": URI, "after": {"endpoint": "keep"}})
    row = world.runs.get(plan["run_id"])
    assert row["keeps_endpoint"] is True
    assert row["expires_tag"] == plan["tags"]["baton:expires-at"]


def test_only_a_pipeline_with_an_endpoint_can_keep_one():
    pipeline = PACKAGED.get("mnist_kmeans")
    world = World(Catalogue({"mnist_kmeans": replace(pipeline, stages=("training",))}))
    assert world.problems({"dataset": URI, "after": {"endpoint": "keep"}}) == [
        "after.endpoint: must be 'delete': the pipeline mnist_kmeans makes no endpoint"
    ]
    assert world.plan({"dataset": URI})["stages"]["endpoint"] is False


def test_several_pipelines_without_a_default_need_a_name():
    world = two_pipelines()
    assert world.problems({"dataset": URI}) == ["pipeline: is needed, because there are several: a, b"]
    assert world.plan({"dataset": URI, "pipeline": "b"})["pipeline"] == "b"


def test_the_china_regions_have_their_own_registries_and_suffix():
    plan = World(region="cn-northwest-1", url_suffix="amazonaws.com.cn").plan({"dataset": URI})
    assert plan["images"]["training"] == "387376663083.dkr.ecr.cn-northwest-1.amazonaws.com.cn/kmeans:1"


def test_a_region_without_a_known_image_names_the_parameter_that_helps():
    world = World(region="mars-north-1")
    (problem,) = world.problems({"dataset": URI})
    assert problem.startswith("parameters.training_image: is needed")
    assert "mars-north-1" in problem
    image = "123456789012.dkr.ecr.mars-north-1.amazonaws.com/kmeans:1"
    plan = world.plan({"dataset": URI, "parameters": {"training_image": image}})
    assert plan["images"]["training"] == image


@pytest.mark.parametrize(
    "image",
    [
        "registry.example/own/kmeans:2",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/own:2",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/own/kmeans:2",
        "123456789012.dkr.ecr.eu-west-2.amazonaws.com/kmeans:2",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com.cn/kmeans:2",
        "123456789012.dkr.ecr.eu-west-1.amazonaws.com/kmeans:",
        7,
    ],
)
def test_an_image_that_the_sagemaker_role_may_not_pull_is_refused(world, image):
    (problem,) = world.problems({"parameters": {"training_image": image}})
    assert problem == f"parameters.training_image: must be {IMAGE_FORM}, not {image!r}"


def test_an_image_is_named_by_tag_or_digest_or_both(world):
    for end in ("", ":2", f"@sha256:{'0' * 64}", f":2@sha256:{'0' * 64}"):
        image = OWN_IMAGE.removesuffix(":2") + end
        assert world.plan({"parameters": {"training_image": image}})["images"]["training"] == image


def test_planning_again_gives_the_same_plan_and_one_row(world):
    first = world.plan({"dataset": URI})
    assert world.plan({"dataset": URI}) == first
    assert len(world.runs.all()) == 1


def test_a_redriven_execution_of_an_ended_run_is_refused(world):
    world.runs.end_badly(world.plan({"dataset": URI})["run_id"])
    with pytest.raises(RunEnded):
        world.plan({"dataset": URI})


def test_a_plan_is_far_below_what_a_state_may_carry(world):
    longest = {name: "x" * 2048 for name, p in PACKAGED.get("mnist_kmeans").parameters.items() if p.default == ""}
    assert len(json.dumps(world.plan({"dataset": URI, "parameters": longest}))) < 64 * 1024


def test_the_execution_is_read_from_the_context_object():
    read = Execution.read({"execution": {"id": "arn", "name": "one", "start_time": "2026-03-01T09:30:00.123Z"}})
    assert read == Execution("arn", STARTED)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
fields = st.sampled_from(
    ["pipeline", "dataset", "dataset_version", "parameters", "smoke_test", "after", "deadline_seconds", "Comment", "x"]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.dictionaries(fields, json_values, max_size=6))
def test_whatever_the_input_it_is_planned_or_refused_with_a_sentence(content):
    world = World()
    refusal = None
    try:
        plan = world.plan({"dataset": URI, **content})
    except InvalidInput as error:
        refusal = str(error)
    if refusal is None:
        assert plan["dataset"]["uri"] == URI
        json.dumps(plan, allow_nan=False)
    else:
        assert re.match(r"The input has (a problem|\d+ problems): ?", refusal)
        assert world.runs.all() == []


def test_a_flood_of_problems_is_told_in_part(world):
    with pytest.raises(InvalidInput) as error:
        world.plan({"dataset": URI, **{f"{'x' * 5000}{i}": i for i in range(200)}})
    text = str(error.value)
    assert text.startswith("The input has 200 problems:")
    assert text.endswith("\n- and so on")
    assert len(text) < 30_000


@pytest.mark.parametrize("section", ["parameters", "smoke_test", None])
def test_fifty_unknown_fields_fit_into_the_cause_of_an_execution(world, section):
    unknown = {f"{'z' * 70}{i:02}": i for i in range(50)}
    with pytest.raises(InvalidInput) as error:
        world.plan({"dataset": URI, **({section: unknown} if section else unknown)})
    cause = json.dumps({"errorType": "InvalidInput", "errorMessage": str(error.value)})
    told = verdict_of({"failure": {"Error": "InvalidInput", "Cause": cause}}, None)["cause"]
    assert told.startswith(f"{error.value} Besides, clean-up")
    assert told.count("there is no such field") == 50
    assert told.count("there is no such field; there are: ") == 1
    assert all(f"{name}: " in told for name in unknown)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ({"a\nb": 1}, "a\\nb: there is no such field"),
        ({"parameters": {"\ud800": 1}}, "parameters.\\ud800: there is no such field"),
        ({"größe": 1}, "größe: there is no such field"),
        ({"dataset": f"s3://{BUCKET}/a\n- b.pkl"}, f"dataset: s3://{BUCKET}/a\\n- b.pkl does not exist"),
        ({"dataset": f"s3://{BUCKET}/\ud800.pkl"}, "dataset: must be of the form s3://bucket/key"),
    ],
)
def test_a_problem_is_one_line_that_can_be_written(world, content, problem):
    (told,) = world.problems({"dataset": URI, **content})
    assert told.startswith(problem)
    told.encode()
