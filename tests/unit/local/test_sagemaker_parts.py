"""The parts of the embedded SageMaker that need no server: search, validation, faults, images, listing, events."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from baton_local import regions
from baton_local.regions import url_suffix
from baton_local.sagemaker import events
from baton_local.sagemaker.errors import Refusal
from baton_local.sagemaker.faults import Faults, respond
from baton_local.sagemaker.images import check_image, registry
from baton_local.sagemaker.kmeans import ClientError
from baton_local.sagemaker.listing import filtered, page
from baton_local.sagemaker.search import Parameter, Search, read_ranges
from baton_local.sagemaker.validation import check_input
from tests.support.aws_models import values_of

UGLY = ("sagemaker_endpoint_deleted", "sagemaker_training_job_without_status")
EVENTS = sorted(p for p in (Path(__file__).parents[3] / "events").glob("sagemaker_*.json") if p.stem not in UGLY)

# The fields in the examples of "Events that Amazon SageMaker AI sends to Amazon EventBridge", and FailureReason and
# ModelArtifacts, which it mentions or real events have.
DOCUMENTED = {
    events.TRAINING: {
        *("TrainingJobName", "TrainingJobArn", "TrainingJobStatus", "SecondaryStatus", "HyperParameters", "RoleArn"),
        *("AlgorithmSpecification", "InputDataConfig", "OutputDataConfig", "ResourceConfig", "VpcConfig", "Tags"),
        *("StoppingCondition", "CreationTime", "TrainingStartTime", "TrainingEndTime", "LastModifiedTime"),
        *("SecondaryStatusTransitions", "FailureReason", "ModelArtifacts"),
    },
    events.TUNING: {
        *("HyperParameterTuningJobName", "HyperParameterTuningJobArn", "TrainingJobDefinition", "CreationTime"),
        *("HyperParameterTuningJobStatus", "LastModifiedTime", "TrainingJobStatusCounters", "Tags"),
        "ObjectiveStatusCounters",
    },
    events.TRANSFORM: {
        *("TransformJobName", "TransformJobArn", "TransformJobStatus", "FailureReason", "ModelName", "Environment"),
        *("MaxConcurrentTransforms", "MaxPayloadInMB", "BatchStrategy", "TransformInput", "TransformOutput", "Tags"),
        *("TransformResources", "CreationTime", "TransformStartTime", "TransformEndTime"),
    },
    events.ENDPOINT: {
        *("EndpointName", "EndpointArn", "EndpointConfigName", "ProductionVariants", "EndpointStatus", "Tags"),
        *("CreationTime", "LastModifiedTime"),
    },
    "SageMaker Endpoint Deployment State Change": {
        *("EndpointName", "EndpointArn", "EndpointConfigName", "ProductionVariants", "EndpointStatus", "Tags"),
        *("CreationTime", "LastModifiedTime", "PendingDeploymentSummary"),
    },
    events.MODEL: {"ModelName", "ModelArn", "CreationTime", "Tags"},
    events.ENDPOINT_CONFIG: {"EndpointConfigName", "EndpointConfigArn", "CreationTime", "Tags"},
}
STATUS = {
    events.TRAINING: ("TrainingJobStatus", "TrainingJobStatus"),
    events.TUNING: ("HyperParameterTuningJobStatus", "HyperParameterTuningJobStatus"),
    events.TRANSFORM: ("TransformJobStatus", "TransformJobStatus"),
}


class TestEvents:
    @pytest.mark.parametrize("path", EVENTS, ids=lambda path: path.stem)
    def test_the_committed_events_have_documented_fields_and_statuses(self, path):
        event = json.loads(path.read_text())
        assert set(event) == {
            *("version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail")
        }
        assert set(event["detail"]) <= DOCUMENTED[event["detail-type"]]
        assert isinstance(event["detail"]["Tags"], dict)
        field, shape = STATUS.get(event["detail-type"], (None, None))
        if field:
            assert event["detail"][field] in values_of("sagemaker", shape)
        if "EndpointStatus" in event["detail"]:
            known = {events.event_status(status) for status in values_of("sagemaker", "EndpointStatus")}
            assert event["detail"]["EndpointStatus"] in known

    def test_there_is_one_of_each_end(self):
        stems = {path.stem for path in EVENTS}
        assert {
            "sagemaker_training_job_completed",
            "sagemaker_training_job_completed_duplicate",
            "sagemaker_training_job_failed",
            "sagemaker_training_job_stopped",
            "sagemaker_training_job_in_progress",
            "sagemaker_training_job_of_a_tuning_job",
            "sagemaker_training_job_foreign",
            "sagemaker_tuning_job_completed",
            "sagemaker_transform_job_completed",
            "sagemaker_transform_job_failed",
            "sagemaker_endpoint_in_service",
            "sagemaker_endpoint_in_service_epoch_time",
            "sagemaker_endpoint_failed",
            "sagemaker_endpoint_deleting",
        } <= stems

    moment = datetime(2026, 5, 4, 9, 30, 12, 417000, tzinfo=UTC)

    def test_a_training_jobs_times_are_texts_of_milliseconds(self):
        description = {"TrainingJobName": "j", "CreationTime": self.moment, "TrainingEndTime": None}
        detail = events.training_detail(description, [{"Key": "a", "Value": "b"}])
        assert detail == {"TrainingJobName": "j", "CreationTime": "1777887012417", "Tags": {"a": "b"}}

    def test_a_transform_jobs_times_are_iso(self):
        detail = events.transform_detail({"TransformJobName": "j", "CreationTime": self.moment}, [])
        assert detail["CreationTime"] == "2026-05-04T09:30:12Z"

    def test_an_endpoints_times_are_numbers_and_its_status_is_in_capitals(self):
        detail = events.endpoint_detail({"CreationTime": self.moment, "EndpointStatus": "InService"}, [])
        assert detail == {"CreationTime": 1777887012417.0, "EndpointStatus": "IN_SERVICE", "Tags": {}}

    def test_every_endpoint_status_has_a_spelling_of_its_own(self):
        spelt = {events.event_status(status) for status in values_of("sagemaker", "EndpointStatus")}
        assert "ROLLING_BACK" in spelt
        assert "UPDATE_ROLLBACK_FAILED" in spelt


RANGES = {
    "IntegerParameterRanges": [{"Name": "n", "MinValue": "500", "MaxValue": "600"}],
    "ContinuousParameterRanges": [{"Name": "x", "MinValue": "0.001", "MaxValue": "1", "ScalingType": "Logarithmic"}],
    "CategoricalParameterRanges": [{"Name": "c", "Values": ["a", "b"]}],
}


class TestSearch:
    def search(self, bayesian: bool = True, seed: int = 1) -> Search:
        return Search(read_ranges(RANGES), bayesian, True, seed)

    @staticmethod
    def cost(values: dict[str, str]) -> float:
        return abs(int(values["n"]) - 570) / 10 + (5 if values["c"] == "a" else 0)

    def run(self, search: Search, jobs: int) -> list[tuple[dict[str, str], float]]:
        tried: list[tuple[dict[str, str], float]] = []
        for _ in range(jobs):
            values = search.propose(tried, [])
            tried.append((values, self.cost(values)))
        return tried

    def test_stays_in_the_ranges(self):
        for values, _ in self.run(self.search(), 15):
            assert 500 <= int(values["n"]) <= 600
            assert 0.001 <= float(values["x"]) <= 1
            assert values["c"] in ("a", "b")

    def test_the_bayesian_strategy_learns(self):
        seeds = range(8)
        bayesian = [min(cost for _, cost in self.run(self.search(True, seed), 12)) for seed in seeds]
        blind = [min(cost for _, cost in self.run(self.search(False, seed), 12)) for seed in seeds]
        assert sum(bayesian) < sum(blind)

    def test_maximises_too(self):
        search = Search(read_ranges(RANGES), True, False, 3)
        tried: list[tuple[dict[str, str], float]] = []
        for _ in range(12):
            values = search.propose(tried, [])
            tried.append((values, -self.cost(values)))
        assert max(value for _, value in tried[3:]) > max(value for _, value in tried[:3])

    def test_the_same_seed_searches_the_same_way(self):
        assert self.run(self.search(), 6) == self.run(self.search(), 6)

    def test_never_proposes_what_runs_or_failed_already(self):
        choice = {"CategoricalParameterRanges": [{"Name": "c", "Values": ["a", "b", "c"]}]}
        search = Search(read_ranges(choice), True, True, 1)
        assert search.propose([({"c": "a"}, None)], [{"c": "b"}]) == {"c": "c"}

    @pytest.mark.parametrize("scale", ["Linear", "Logarithmic", "ReverseLogarithmic"])
    def test_text_and_coordinates_belong_together(self, scale):
        parameter = Parameter("x", low=0.1, high=0.9, scale=scale)
        for position in (0.0, 0.3, 1.0):
            assert parameter.coordinates(parameter.text(position))[0] == pytest.approx(position)

    @pytest.mark.parametrize(
        "ranges",
        [
            {"IntegerParameterRanges": [{"Name": "n", "MinValue": "6", "MaxValue": "5"}]},
            {"IntegerParameterRanges": [{"Name": "n", "MinValue": "1.5", "MaxValue": "5"}]},
            {
                "ContinuousParameterRanges": [
                    {"Name": "x", "MinValue": "0", "MaxValue": "1", "ScalingType": "Logarithmic"}
                ]
            },
            {"ContinuousParameterRanges": [{"Name": "x", "MinValue": "nan", "MaxValue": "1"}]},
            {**RANGES, "ContinuousParameterRanges": [{"Name": "n", "MinValue": "0", "MaxValue": "1"}]},
        ],
    )
    def test_refuses_ranges_that_make_no_sense(self, ranges):
        with pytest.raises(ValueError, match=r".+"):
            read_ranges(ranges)


class TestValidation:
    def message(self, operation: str, request: dict) -> str:
        with pytest.raises(Refusal) as refusal:
            check_input(operation, request)
        assert refusal.value.code == "ValidationException"
        return refusal.value.message

    def test_a_good_request_passes(self):
        check_input("DescribeTrainingJob", {"TrainingJobName": "bt-1"})

    def test_required_members(self):
        message = self.message("DescribeTrainingJob", {})
        assert message == (
            "1 validation error detected: Value null at 'trainingJobName' failed to satisfy constraint: "
            "Member must not be null"
        )

    @pytest.mark.parametrize("name", ["-a", "a_b", "a" * 64, "ä"])
    def test_names(self, name):
        assert "trainingJobName" in self.message("DescribeTrainingJob", {"TrainingJobName": name})

    def test_tuning_job_names_are_short(self):
        call, field = "DescribeHyperParameterTuningJob", "HyperParameterTuningJobName"
        check_input(call, {field: "a" * 32})
        assert "less than or equal to 32" in self.message(call, {field: "a" * 33})

    def test_all_problems_at_once_with_their_places(self):
        request = {"ResourceArn": "nonsense", "Tags": [{"Key": "k", "Value": "v" * 257}, {"Value": "v"}]}
        message = self.message("AddTags", request)
        assert message.startswith("3 validation errors detected")
        assert "'resourceArn'" in message
        assert "'tags.1.member.value'" in message
        assert "'tags.2.member.key'" in message

    def test_enumerations(self):
        assert "enum value set" in self.message("ListEndpoints", {"StatusEquals": "IN_SERVICE"})

    def test_numbers(self):
        assert "less than or equal to 100" in self.message("ListEndpoints", {"MaxResults": 101})

    def test_types(self):
        with pytest.raises(Refusal) as refusal:
            check_input("DescribeTrainingJob", {"TrainingJobName": 5})
        assert refusal.value.code == "SerializationException"


class TestFaults:
    def test_strikes_by_name_and_as_often_as_it_says(self):
        faults = Faults()
        faults.update({"training": {"match": "bt-*-train", "times": 1, "fail": "no"}})
        assert faults.strike("training", "bt-x-tune-001-a").fail is None
        assert faults.strike("training", "bt-x-train").fail == "no"
        assert faults.strike("training", "bt-y-train").fail is None

    def test_sections_replace_each_other_and_null_clears(self):
        faults = Faults()
        faults.update({"training": {"fail": "a"}, "endpoint": {"creating_seconds": 3}})
        faults.update({"training": None})
        assert faults.strike("training", "x").fail is None
        assert faults.strike("endpoint", "x").creating_seconds == 3

    def test_refuses_calls(self):
        faults = Faults()
        faults.update({"refuse": {"CreateModel": {"code": "ThrottlingException", "message": "m", "times": 1}}})
        with pytest.raises(Refusal, match="ThrottlingException"):
            faults.admit("CreateModel")
        faults.admit("CreateModel")

    def test_limits(self):
        faults = Faults()
        faults.update({"limits": {"training": 1}})
        faults.check_limit("training", [], "ml.m5.large")
        with pytest.raises(Refusal, match=r"account-level service limit 'ml\.m5\.large for training job usage' is 1"):
            faults.check_limit("training", [object()], "ml.m5.large")

    @pytest.mark.parametrize(
        "settings",
        [
            {"trainings": {}},
            {"training": {"failure": "x"}},
            {"training": {"times": "two"}},
            {"training": 5},
            {"refuse": {"CreateModel": {}}},
            {"refuse": {"CreateModel": {"message": "m"}}},
            {"limits": {"model": 1}},
        ],
    )
    def test_unknown_settings_are_refused_and_change_nothing(self, settings):
        faults = Faults()
        faults.update({"training": {"fail": "kept"}})
        if settings == {"refuse": {"CreateModel": {}}}:
            settings = {"refuse": {"CreateModel": {"code": 5}}}
        status, answer = respond(faults, "POST", json.dumps(settings).encode())
        assert status.startswith("400"), answer
        assert faults.strike("training", "x").fail == "kept"

    def test_the_route_sets_shows_and_clears(self):
        faults = Faults()
        respond(faults, "POST", b'{"limits": {"endpoint": 0}}')
        assert respond(faults, "GET", b"")[1]["limits"] == {"endpoint": 0}
        assert respond(faults, "DELETE", b"")[1] == {"refuse": {}, "limits": {}}
        assert respond(faults, "PUT", b"")[0].startswith("405")


class TestImages:
    def test_the_table_has_all_regions(self):
        accounts = registry()["registries"]
        assert len(accounts) == 37
        assert accounts["cn-northwest-1"] == "387376663083"

    @pytest.mark.parametrize("region", sorted(registry()["registries"]))
    def test_the_regions_own_image_is_there(self, region):
        check_image(f"{registry()['registries'][region]}.dkr.ecr.{region}.{url_suffix(region)}/kmeans:1", region)

    @pytest.mark.parametrize(
        "image",
        [
            "382416733822.dkr.ecr.us-east-1.amazonaws.com/kmeans:1",
            "387376663083.dkr.ecr.cn-northwest-1.amazonaws.com/kmeans:1",
            "390948362332.dkr.ecr.cn-northwest-1.amazonaws.com.cn/kmeans:1",
            "387376663083.dkr.ecr.cn-northwest-1.amazonaws.com.cn/pca:1",
            "387376663083.dkr.ecr.cn-northwest-1.amazonaws.com.cn/kmeans:9",
            "kmeans",
        ],
    )
    def test_another_regions_or_partitions_image_is_not(self, image):
        with pytest.raises(ClientError, match="Failed to pull image"):
            check_image(image, "cn-northwest-1")

    def test_where_the_account_is_not_known_every_accounts_image_is_there(self):
        without = set(regions.regions()) - set(registry()["registries"])
        assert {"mx-central-1", "ap-southeast-5"} <= without
        for region in without:
            check_image(f"111122223333.dkr.ecr.{region}.{url_suffix(region)}/kmeans:1", region)

    @pytest.mark.parametrize(
        "image",
        [
            "111122223333.dkr.ecr.mx-central-1.amazonaws.com/pca:1",
            "111122223333.dkr.ecr.mx-central-1.amazonaws.com.cn/kmeans:1",
            "111122223333.dkr.ecr.us-east-1.amazonaws.com/kmeans:1",
            "1.dkr.ecr.mx-central-1.amazonaws.com/kmeans:1",
        ],
    )
    def test_nor_is_any_other_image_there(self, image):
        with pytest.raises(ClientError, match="Failed to pull image"):
            check_image(image, "mx-central-1")


class TestListing:
    start = datetime(2026, 1, 1, tzinfo=UTC)

    def items(self) -> list[dict]:
        return [
            {
                "Name": f"job-{i}",
                "Status": "Failed" if i % 2 else "Completed",
                "CreationTime": self.start + timedelta(i),
            }
            for i in range(5)
        ]

    def names(self, **request: object) -> list[str]:
        return [item["Name"] for item in filtered(self.items(), request, "Name", "Status")]

    def test_newest_first(self):
        assert self.names() == ["job-4", "job-3", "job-2", "job-1", "job-0"]

    def test_filters(self):
        assert self.names(StatusEquals="Failed", SortOrder="Ascending") == ["job-1", "job-3"]
        assert self.names(NameContains="B-2") == ["job-2"]
        after = (self.start + timedelta(2)).timestamp()
        assert self.names(CreationTimeAfter=after, SortBy="Name", SortOrder="Ascending") == ["job-3", "job-4"]

    def test_pages(self):
        found, request = [], {"MaxResults": 2}
        while True:
            answer = page(self.names(), request, "Jobs")
            found += answer["Jobs"]
            if "NextToken" not in answer:
                break
            request["NextToken"] = answer["NextToken"]
        assert found == self.names()

    def test_a_token_that_is_none_is_refused(self):
        with pytest.raises(Refusal):
            page([], {"NextToken": "%"}, "Jobs")
