"""Training, tuning and transform jobs of the embedded SageMaker, by boto3 over HTTP with IAM enforced."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from botocore.exceptions import ClientError

from baton_local.sagemaker import kmeans
from tests.integration.local.sagemaker_helpers import (
    Account,
    check_shape,
    csv,
    eventually,
    recordio,
    rows,
    running_account,
)


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with running_account() as found:
        yield found


@pytest.fixture(scope="module")
def unhurried() -> Iterator[Account]:
    """One in which a job that is told to stop takes more than a second to, so that one can look meanwhile."""
    with running_account(speed=10.0) as found:
        yield found


@pytest.fixture(autouse=True)
def _no_faults_afterwards(account: Account) -> Iterator[None]:
    yield
    account.faults(method="DELETE")


def refusal(call, **arguments) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


class TestTraining:
    def test_a_job_trains_and_its_artefact_is_the_model(self, account):
        name = account.train()
        job = account.training_end(name)
        check_shape("DescribeTrainingJob", job)
        assert job["TrainingJobStatus"] == "Completed", job
        artefact = job["ModelArtifacts"]["S3ModelArtifacts"]
        assert artefact == account.uri(f"models/{name}/output/model.tar.gz")
        centres = kmeans.load_model(account.get(artefact))
        metrics = {metric["MetricName"]: metric["Value"] for metric in job["FinalMetricDataList"]}
        assert set(metrics) == {"train:msd", "train:ssd", "test:msd"}
        assert metrics["test:msd"] == pytest.approx(kmeans.quality(rows(200, seed=1), centres)["msd"])
        assert metrics["test:msd"] < 0.02

    def test_the_states_pass_in_order_with_their_times(self, account):
        job = account.training_end(account.train())
        steps = job["SecondaryStatusTransitions"]
        names = [step["Status"] for step in steps]
        assert names == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
        for step, following in itertools.pairwise(steps):
            assert step["StartTime"] <= step["EndTime"] == following["StartTime"]
        assert job["CreationTime"] <= job["TrainingStartTime"] <= job["TrainingEndTime"] <= job["LastModifiedTime"]
        assert job["BillableTimeInSeconds"] == job["TrainingTimeInSeconds"] >= 1

    def test_a_job_in_progress_has_no_artefact_and_no_end(self, account):
        account.faults({"training": {"in_progress_seconds": 60}})
        name = account.train()
        job = account.sagemaker.describe_training_job(TrainingJobName=name)
        assert job["TrainingJobStatus"] == "InProgress"
        assert not {"ModelArtifacts", "TrainingEndTime", "FailureReason", "FinalMetricDataList"} & set(job)
        check_shape("DescribeTrainingJob", job, optional=("ModelArtifacts",))
        account.sagemaker.stop_training_job(TrainingJobName=name)

    def test_the_events_tell_the_states(self, account):
        name = account.train(Tags=[{"Key": "baton:run-id", "Value": "bt-1"}])
        events = account.events_of(name, "Completed")
        states = [event["detail"]["SecondaryStatus"] for event in events]
        assert sorted(states) == sorted(["Starting", "Downloading", "Training", "Uploading", "Completed"])
        last = next(event for event in events if event["detail"]["SecondaryStatus"] == "Completed")
        job = account.sagemaker.describe_training_job(TrainingJobName=name)
        assert last["source"] == "aws.sagemaker"
        assert last["resources"] == [job["TrainingJobArn"]]
        assert last["detail"]["Tags"] == {"baton:run-id": "bt-1"}
        assert last["detail"]["ModelArtifacts"] == job["ModelArtifacts"]
        assert last["detail"]["CreationTime"] == str(round(job["CreationTime"].timestamp() * 1000))
        assert "FailureReason" not in last["detail"]

    def test_the_log_has_the_metric_lines_that_the_definitions_match(self, account):
        name = account.train()
        job = account.training_end(name)
        logs = account.cloud.client("logs", account.region)
        group = "/aws/sagemaker/TrainingJobs"
        streams = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/algo-1-")["logStreams"]
        lines = logs.get_log_events(logGroupName=group, logStreamName=streams[0]["logStreamName"])["events"]
        text = "\n".join(line["message"] for line in lines)
        metrics = {metric["MetricName"]: metric["Value"] for metric in job["FinalMetricDataList"]}
        for definition in job["AlgorithmSpecification"]["MetricDefinitions"]:
            found = re.search(definition["Regex"], text)
            if definition["Name"] in metrics:
                assert float(found[1]) == pytest.approx(metrics[definition["Name"]])
            else:
                assert found is None

    def test_channels_may_be_csv_and_have_several_objects(self, account):
        account.put("several/a", csv(rows(100)))
        account.put("several/b", csv(rows(100, seed=2)))
        channel = account.channel("train", account.uri("several/"), "text/csv;label_size=0")
        job = account.training_end(account.train(InputDataConfig=[channel]))
        assert job["TrainingJobStatus"] == "Completed", job
        values = {m["MetricName"]: m["Value"] for m in job["FinalMetricDataList"]}
        assert values["train:ssd"] == pytest.approx(values["train:msd"] * 200)

    def test_a_new_object_of_the_same_key_is_read_again(self, account):
        uri = account.put("again/data", recordio(rows(100)))
        channel = account.channel("train", uri)
        first = account.training_end(account.train(InputDataConfig=[channel]))
        account.put("again/data", recordio(rows(50) * 9))
        second = account.training_end(account.train(InputDataConfig=[channel]))
        assert first["FinalMetricDataList"][0]["Value"] * 9 < second["FinalMetricDataList"][0]["Value"]


class TestTrainingFailures:
    def reason(self, account, **changes) -> str:
        job = account.training_end(account.train(**changes))
        assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Failed"
        check_shape("DescribeTrainingJob", job, optional=("ModelArtifacts",))
        return job["FailureReason"]

    @pytest.mark.parametrize(
        ("parameters", "reason"),
        [
            ({"feature_dim": "4"}, "ClientError: 'k' is a required property"),
            ({"k": "3", "feature_dim": "5"}, "ClientError: Unable to read data channel 'train'. The data has"),
            ({"k": "3", "feature_dim": "4", "depth": "2"}, "ClientError: Additional hyperparameters are not allowed"),
            ({"k": "601", "feature_dim": "4"}, "ClientError: The train channel has 600 records"),
        ],
    )
    def test_hyperparameters(self, account, parameters, reason):
        assert self.reason(account, HyperParameters=parameters).startswith(reason)

    def test_missing_objects(self, account):
        reason = self.reason(account, InputDataConfig=[account.channel("train", account.uri("nothing/"))])
        url = account.uri("nothing/")
        assert reason.startswith(f'ClientError: No S3 objects found under S3 URL "{url}" given in input data source.')

    def test_a_bucket_that_does_not_exist(self, account):
        reason = self.reason(account, InputDataConfig=[account.channel("train", "s3://no-such-bucket-at-all/x")])
        assert "No S3 objects found" in reason

    @pytest.mark.parametrize("body", [b"", b"not records", recordio(rows(20))[:-3]])
    def test_data_that_are_no_records(self, account, body):
        channel = account.channel("train", account.put(f"bad/{len(body)}", body))
        assert "Unable to read data channel 'train'" in self.reason(account, InputDataConfig=[channel])

    def test_nan(self, account):
        matrix = rows(30)
        matrix[3, 1] = np.nan
        channel = account.channel("train", account.put("nan/data", recordio(matrix)))
        assert "NaN" in self.reason(account, InputDataConfig=[channel])

    def test_no_train_channel(self, account):
        channel = account.channel("valid", account.uri("train/"))
        assert "train" in self.reason(account, InputDataConfig=[channel])

    @pytest.mark.parametrize(
        "image",
        [
            "387376663083.dkr.ecr.cn-northwest-1.amazonaws.com.cn/kmeans:1",
            "382416733822.dkr.ecr.us-east-1.amazonaws.com/kmeans:1",
        ],
    )
    def test_the_image_of_another_region_cannot_be_pulled(self, account, image):
        specification = {"TrainingImage": image, "TrainingInputMode": "File"}
        assert "Failed to pull image" in self.reason(account, AlgorithmSpecification=specification)

    def test_a_role_that_may_not_list(self, account):
        role = account.make_role("blind", account.reading()[1:] + account.writing())
        reason = self.reason(account, RoleArn=role)
        assert "No S3 objects found" in reason
        assert '"s3:ListBucket" permissions' in reason

    def test_a_role_that_may_not_read(self, account):
        role = account.make_role("no-read", account.reading()[:1] + account.writing())
        assert self.reason(account, RoleArn=role).startswith("ClientError: Data download failed")

    def test_a_role_that_may_not_write(self, account):
        role = account.make_role("no-write", account.reading())
        assert self.reason(account, RoleArn=role).startswith("ClientError: Artifact upload failed")

    def test_a_role_that_may_not_log_trains_without_a_log(self, account):
        role = account.make_role("no-log", account.reading() + account.writing()[:1])
        name = account.train(RoleArn=role)
        assert account.training_end(name)["TrainingJobStatus"] == "Completed"
        streams = account.cloud.client("logs", account.region).describe_log_streams(
            logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=name
        )
        assert streams["logStreams"] == []

    def test_the_event_of_a_failure_has_its_reason(self, account):
        name = account.train(HyperParameters={"k": "3"})
        failed = [e for e in account.events_of(name, "Failed") if e["detail"]["TrainingJobStatus"] == "Failed"]
        assert "feature_dim" in failed[0]["detail"]["FailureReason"]
        assert "ModelArtifacts" not in failed[0]["detail"]

    def test_a_fault_makes_a_job_fail(self, account):
        account.faults({"training": {"times": 1, "fail": "CapacityError: Unable to provision"}})
        assert self.reason(account) == "CapacityError: Unable to provision"
        assert account.training_end(account.train())["TrainingJobStatus"] == "Completed"

    def test_a_job_that_runs_too_long_is_stopped(self, account):
        account.faults({"training": {"in_progress_seconds": 60}})
        job = account.training_end(account.train(StoppingCondition={"MaxRuntimeInSeconds": 1}))
        assert (job["TrainingJobStatus"], job["SecondaryStatus"]) == ("Stopped", "MaxRuntimeExceeded")


class TestStoppingTraining:
    def test_passes_through_stopping(self, unhurried):
        unhurried.faults({"training": {"in_progress_seconds": 60}})
        name = unhurried.train()
        unhurried.sagemaker.stop_training_job(TrainingJobName=name)
        assert unhurried.sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "Stopping"
        job = unhurried.training_end(name)
        assert job["TrainingJobStatus"] == job["SecondaryStatus"] == "Stopped"
        seen = {event["detail"]["TrainingJobStatus"] for event in unhurried.events_of(name, "Stopped")}
        assert seen == {"InProgress", "Stopping", "Stopped"}

    def test_a_job_that_computes_is_killed(self, account):
        matrix = np.random.default_rng(0).random((20_000, 30), np.float32)
        uri = account.put("long/data", recordio(matrix))
        parameters = {"k": "50", "feature_dim": "30", "epochs": "100000", "mini_batch_size": "500"}
        name = account.train(HyperParameters=parameters, InputDataConfig=[account.channel("train", uri)])

        def trains() -> bool:
            job = account.sagemaker.describe_training_job(TrainingJobName=name)
            return bool(job["SecondaryStatus"] == "Training")

        eventually(trains)
        account.sagemaker.stop_training_job(TrainingJobName=name)
        assert account.training_end(name)["TrainingJobStatus"] == "Stopped"
        assert account.training_end(account.train())["TrainingJobStatus"] == "Completed"

    def test_a_finished_job_is_not_stopped(self, account):
        name = account.train()
        account.training_end(name)
        code, message = refusal(account.sagemaker.stop_training_job, TrainingJobName=name)
        assert code == "ValidationException"
        assert message == "The request was rejected because the training job is in status Completed."


class TestTrainingCalls:
    def test_names_are_taken_for_good(self, account):
        name = account.train()
        code, message = refusal(account.train, name=name)
        assert code == "ResourceInUse"
        assert message.startswith("Job name must be unique within an AWS account and region")
        account.training_end(name)
        assert refusal(account.train, name=name)[0] == "ResourceInUse"

    def test_missing_jobs(self, account):
        describe, stop = account.sagemaker.describe_training_job, account.sagemaker.stop_training_job
        assert refusal(describe, TrainingJobName="none") == ("ValidationException", "Requested resource not found.")
        assert refusal(stop, TrainingJobName="none") == ("ResourceNotFound", "Requested resource not found.")

    @pytest.mark.parametrize("name", ["under_score", "-dash", "x" * 64])
    def test_bad_names(self, account, name):
        code, message = refusal(account.train, name=name)
        assert code == "ValidationException"
        assert "'trainingJobName'" in message

    def test_a_role_that_sagemaker_may_not_assume(self, account):
        role = account.make_role("lambda", account.reading(), principal={"Service": "lambda.amazonaws.com"})
        code, message = refusal(account.train, RoleArn=role)
        assert code == "ValidationException"
        assert message.startswith(f"Could not assume role {role}.")

    def test_a_role_that_may_not_encrypt_the_output(self, account):
        key = account.cloud.client("kms", account.region).create_key()["KeyMetadata"]["Arn"]
        output = {"S3OutputPath": account.uri("models"), "KmsKeyId": key}
        code, message = refusal(account.train, OutputDataConfig=output)
        assert (code, f"must be allowed kms:Encrypt on {key}" in message) == ("ValidationException", True)
        encrypting = {"Effect": "Allow", "Action": ["kms:Encrypt", "kms:GenerateDataKey"], "Resource": key}
        role = account.make_role("encrypting", [*account.reading(), *account.writing(), encrypting])
        description = account.training_end(account.train(OutputDataConfig=output, RoleArn=role))
        assert description.get("FailureReason") is None
        bucket, _, path = description["ModelArtifacts"]["S3ModelArtifacts"].removeprefix("s3://").partition("/")
        assert account.s3.head_object(Bucket=bucket, Key=path)["SSEKMSKeyId"] == key

    def test_refusals_and_limits_on_demand(self, account):
        account.faults({"refuse": {"DescribeTrainingJob": {"code": "ThrottlingException", "message": "Rate exceeded"}}})
        assert refusal(account.sagemaker.describe_training_job, TrainingJobName="x")[0] == "ThrottlingException"
        account.faults({"refuse": None, "limits": {"training": 0}})
        assert refusal(account.train)[0] == "ResourceLimitExceeded"

    def test_lists(self, account):
        prefix = f"listed-{time.monotonic_ns()}"
        names = [account.train(f"{prefix}-{i}") for i in range(3)]
        for name in names:
            account.training_end(name)
        pages = account.sagemaker.get_paginator("list_training_jobs").paginate(
            NameContains=prefix, SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 2}
        )
        answers = list(pages)
        assert [job["TrainingJobName"] for answer in answers for job in answer["TrainingJobSummaries"]] == names
        assert len(answers) == 2
        check_shape("ListTrainingJobs", answers[0])
        none = account.sagemaker.list_training_jobs(NameContains=prefix, StatusEquals="Failed")
        assert none["TrainingJobSummaries"] == []

    def test_tags(self, account):
        name = account.train(Tags=[{"Key": "a", "Value": "1"}])
        arn = account.sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobArn"]
        added = account.sagemaker.add_tags(
            ResourceArn=arn, Tags=[{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"}]
        )
        assert added["Tags"] == [{"Key": "a", "Value": "2"}, {"Key": "b", "Value": "3"}]
        account.sagemaker.delete_tags(ResourceArn=arn, TagKeys=["a"])
        assert account.sagemaker.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "3"}]
        assert refusal(account.sagemaker.list_tags, ResourceArn=arn + "x")[0] == "ValidationException"
        tagging = account.cloud.client("resourcegroupstaggingapi", account.region)
        found = tagging.get_resources(TagFilters=[{"Key": "b", "Values": ["3"]}])["ResourceTagMappingList"]
        assert [entry["ResourceARN"] for entry in found] == [arn]


def integers(low: str, high: str) -> dict[str, Any]:
    return {"IntegerParameterRanges": [{"Name": "mini_batch_size", "MinValue": low, "MaxValue": high}]}


class TestTuning:
    @pytest.mark.parametrize("strategy", ["Bayesian", "Random"])
    def test_searches_and_finds_the_best(self, account, strategy):
        name = account.tune(jobs=5, strategy=strategy, Tags=[{"Key": "baton:run-id", "Value": "bt-9"}])
        job = account.tuning_end(name)
        check_shape("DescribeHyperParameterTuningJob", job)
        assert job["HyperParameterTuningJobStatus"] == "Completed", job
        assert job["TrainingJobStatusCounters"]["Completed"] == job["ObjectiveStatusCounters"]["Succeeded"] == 5
        answer = account.sagemaker.list_training_jobs_for_hyper_parameter_tuning_job(
            HyperParameterTuningJobName=name, SortBy="FinalObjectiveMetricValue", SortOrder="Ascending"
        )
        check_shape("ListTrainingJobsForHyperParameterTuningJob", answer)
        summaries = answer["TrainingJobSummaries"]
        objective = "FinalHyperParameterTuningJobObjectiveMetric"
        values = [summary[objective]["Value"] for summary in summaries]
        assert values == sorted(values)
        assert job["BestTrainingJob"] == summaries[0]
        for summary in summaries:
            assert re.fullmatch(rf"{name}-00[1-5]-[0-9a-f]{{8}}", summary["TrainingJobName"])
            tuned = summary["TunedHyperParameters"]
            assert set(tuned) == {"mini_batch_size", "extra_center_factor", "init_method"}
            assert 50 <= int(tuned["mini_batch_size"]) <= 60

    def test_its_training_jobs_are_training_jobs(self, account):
        name = account.tune(jobs=1, Tags=[{"Key": "baton:run-id", "Value": "bt-9"}])
        best = account.tuning_end(name)["BestTrainingJob"]["TrainingJobName"]
        job = account.sagemaker.describe_training_job(TrainingJobName=best)
        assert job["TuningJobArn"].endswith(f":hyper-parameter-tuning-job/{name}")
        assert job["HyperParameters"]["_tuning_objective_metric"] == "test:msd"
        assert job["HyperParameters"]["k"] == "3"
        tags = account.sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
        assert tags == [{"Key": "baton:run-id", "Value": "bt-9"}]
        metric = account.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        assert account.get(job["ModelArtifacts"]["S3ModelArtifacts"])
        assert metric["TrainingJobDefinition"]["StaticHyperParameters"]["_tuning_objective_metric"] == "test:msd"

    def test_no_more_run_at_once_than_it_says(self, account):
        account.faults({"training": {"in_progress_seconds": 0.4}})
        name = account.tune(jobs=4)
        most = 0
        while True:
            job = account.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
            most = max(most, job["TrainingJobStatusCounters"]["InProgress"])
            if job["HyperParameterTuningJobStatus"] == "Completed":
                break
        assert most == 2

    def test_the_events_have_counters_and_no_best_job(self, account):
        name = account.tune(jobs=1)
        events = account.events_of(name, "Completed")
        last = next(e for e in events if e["detail"]["HyperParameterTuningJobStatus"] == "Completed")
        assert last["detail-type"] == "SageMaker HyperParameter Tuning Job State Change"
        assert last["detail"]["TrainingJobStatusCounters"]["Completed"] == 1
        assert "BestTrainingJob" not in last["detail"]

    def test_stopping_stops_its_training_jobs(self, unhurried):
        unhurried.faults({"training": {"in_progress_seconds": 60}})
        name = unhurried.tune(jobs=4)
        eventually(
            lambda: (
                unhurried.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)[
                    "TrainingJobStatusCounters"
                ]["InProgress"]
                == 2
            )
        )
        unhurried.sagemaker.stop_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        stopping = unhurried.sagemaker.describe_hyper_parameter_tuning_job(HyperParameterTuningJobName=name)
        assert stopping["HyperParameterTuningJobStatus"] == "Stopping"
        job = unhurried.tuning_end(name)
        assert job["HyperParameterTuningJobStatus"] == "Stopped"
        counters = job["TrainingJobStatusCounters"]
        assert (counters["Stopped"], counters["InProgress"]) == (2, 0)
        code, message = refusal(unhurried.sagemaker.stop_hyper_parameter_tuning_job, HyperParameterTuningJobName=name)
        assert code == "ValidationException"
        assert "is in status Stopped" in message

    def test_survives_training_jobs_that_fail(self, account):
        account.faults({"training": {"times": 2, "fail": "CapacityError: none"}})
        job = account.tuning_end(account.tune(jobs=4))
        assert job["HyperParameterTuningJobStatus"] == "Completed"
        assert job["TrainingJobStatusCounters"]["NonRetryableError"] == 2
        assert job["ObjectiveStatusCounters"] == {"Succeeded": 2, "Pending": 0, "Failed": 2}

    def test_fails_when_all_of_them_fail(self, account):
        definition = {"InputDataConfig": [account.channel("train", account.uri("nothing"))]}
        job = account.tuning_end(account.tune(jobs=2, definition=definition))
        assert job["HyperParameterTuningJobStatus"] == "Failed"
        assert job["FailureReason"].startswith("No training job succeeded")
        assert "BestTrainingJob" not in job

    def test_without_a_test_channel_there_is_no_test_metric(self, account):
        definition = {"InputDataConfig": [account.channel("train", account.uri("train/"))]}
        job = account.tuning_end(account.tune(jobs=1, definition=definition))
        assert job["HyperParameterTuningJobStatus"] == "Failed"
        assert job["TrainingJobStatusCounters"]["Completed"] == 1
        assert job["ObjectiveStatusCounters"]["Failed"] == 1

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"ResourceLimits": {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 2}}, "MaxParallel"),
            ({"HyperParameterTuningJobObjective": {"Type": "Minimize", "MetricName": "loss"}}, "loss"),
            ({"ParameterRanges": {}}, "at least one"),
            ({"ParameterRanges": {"CategoricalParameterRanges": [{"Name": "k", "Values": ["2"]}]}}, "not tunable"),
            ({"Strategy": "Hyperband"}, "Hyperband"),
            ({"ParameterRanges": integers("50", "50")}, "is not valid"),
            (
                {"ParameterRanges": integers("50", "51")},
                "provided ranges [2.0] must be equal or greater than the value of MaxNumberOfJobs, [3]",
            ),
        ],
    )
    def test_refuses_what_makes_no_sense(self, account, config, message):
        code, text = refusal(account.tune, config=config)
        assert code == "ValidationException"
        assert message in text

    def test_names_of_32_characters_at_most_and_taken_for_good(self, account):
        assert "'hyperParameterTuningJobName'" in refusal(account.tune, name="x" * 33)[1]
        name = account.tune("x" * 32, jobs=1)
        assert refusal(account.tune, name=name)[0] == "ResourceInUse"
        account.tuning_end(name)

    def test_missing_jobs(self, account):
        describe = account.sagemaker.describe_hyper_parameter_tuning_job
        expected = ("ResourceNotFound", "Requested resource not found.")
        assert refusal(describe, HyperParameterTuningJobName="none") == expected


@pytest.fixture(scope="module")
def model(account: Account) -> str:
    artefact = account.training_end(account.train())["ModelArtifacts"]["S3ModelArtifacts"]
    return account.model(artefact)


class TestTransform:
    def predictions(self, account, key) -> list[dict]:
        return [json.loads(line) for line in account.get(account.uri(f"predictions/{key}.out")).splitlines()]

    def test_predicts_every_object_under_the_prefix(self, account, model):
        account.put("input/a.csv", csv(rows(50)))
        account.put("input/deeper/b.csv", csv(rows(20, seed=3)))
        name = account.transform(model, account.uri("input/"), BatchStrategy="MultiRecord", MaxPayloadInMB=6)
        job = account.transform_end(name)
        check_shape("DescribeTransformJob", job)
        assert job["TransformJobStatus"] == "Completed", job
        assert job["CreationTime"] <= job["TransformStartTime"] <= job["TransformEndTime"]
        assert len(self.predictions(account, "a.csv")) == 50
        deeper = self.predictions(account, "deeper/b.csv")
        url = account.sagemaker.describe_model(ModelName=model)["PrimaryContainer"]["ModelDataUrl"]
        clusters, distances = kmeans.nearest(rows(20, seed=3), kmeans.load_model(account.get(url)))
        assert [row["closest_cluster"] for row in deeper] == clusters.astype(float).tolist()
        assert [row["distance_to_cluster"] for row in deeper] == pytest.approx(distances.tolist(), abs=1e-4)

    def test_the_order_of_the_rows_survives_the_batches(self, account, model):
        account.put("large/all.csv", csv(rows(40_000)))
        job = account.transform_end(account.transform(model, account.uri("large/"), MaxPayloadInMB=1))
        assert job["TransformJobStatus"] == "Completed", job
        account.put("small/head.csv", csv(rows(40_000)[:500]))
        account.transform_end(account.transform(model, account.uri("small/")))
        assert self.predictions(account, "all.csv")[:500] == self.predictions(account, "head.csv")

    def test_csv_if_asked_for(self, account, model):
        account.put("asked/a.csv", csv(rows(3)))
        output = {"Accept": "text/csv", "AssembleWith": "Line"}
        account.transform_end(account.transform(model, account.uri("asked/"), output=output))
        lines = account.get(account.uri("predictions/a.csv.out")).decode().splitlines()
        assert [len(line.split(",")) for line in lines] == [2, 2, 2]

    @pytest.mark.parametrize("body", [b"1,2,3", b"1,2,3,x", b"1,2,3,4\n1,2"])
    def test_rows_that_do_not_fit_fail_the_job(self, account, model, body):
        account.put(f"unfit{len(body)}/a.csv", body)
        job = account.transform_end(account.transform(model, account.uri(f"unfit{len(body)}/")))
        assert job["TransformJobStatus"] == "Failed"
        assert job["FailureReason"] == "ClientError: See job logs for more information"
        check_shape("DescribeTransformJob", job)

    def test_a_content_type_that_is_unknown_fails_the_job(self, account, model):
        account.put("typed/a", csv(rows(3)))
        name = account.transform(model, account.uri("typed/"), input={"ContentType": "text/plain"})
        assert account.transform_end(name)["TransformJobStatus"] == "Failed"

    def test_an_input_without_objects_is_refused(self, account, model):
        code, message = refusal(account.transform, model=model, source=account.uri("no/where"))
        assert code == "ValidationException"
        assert message.startswith(f'No S3 objects found under S3 URL "{account.uri("no/where")}"')

    @pytest.mark.parametrize(
        ("changes", "refused"),
        [
            ({"MaxConcurrentTransforms": 20, "MaxPayloadInMB": 6}, True),
            ({"MaxConcurrentTransforms": 17}, True),
            ({"MaxPayloadInMB": 101}, True),
            ({"MaxConcurrentTransforms": 4, "MaxPayloadInMB": 25}, False),
            ({"MaxConcurrentTransforms": 0, "MaxPayloadInMB": 100}, False),
        ],
    )
    def test_payloads_of_more_than_100_mb_at_once_are_refused(
        self, account: Account, changes: dict[str, int], refused: bool
    ):
        # That the model does not exist comes after.
        code, message = refusal(account.transform, model="no-model", source=account.uri("train/"), **changes)
        assert code == "ValidationException"
        assert ("must not exceed 100 MB" in message) == refused

    def test_a_model_that_does_not_exist_is_refused(self, account):
        code, message = refusal(account.transform, model="no-model", source=account.uri("train/"))
        assert code == "ValidationException"
        assert re.fullmatch(r'Could not find model "arn:aws:sagemaker:.*:model/no-model".', message)

    def test_stopping_and_its_events(self, unhurried):
        unhurried.faults({"transform": {"in_progress_seconds": 60}})
        unhurried.put("stopped/a.csv", csv(rows(3)))
        unhurried.put("model.tar.gz", kmeans.save_model(np.zeros((2, rows(1).shape[1]), np.float32)))
        model = unhurried.model(unhurried.uri("model.tar.gz"))
        name = unhurried.transform(model, unhurried.uri("stopped/"))
        unhurried.sagemaker.stop_transform_job(TransformJobName=name)
        assert unhurried.sagemaker.describe_transform_job(TransformJobName=name)["TransformJobStatus"] == "Stopping"
        assert unhurried.transform_end(name)["TransformJobStatus"] == "Stopped"
        statuses = [event["detail"]["TransformJobStatus"] for event in unhurried.events_of(name, "Stopped")]
        assert set(statuses) == {"InProgress", "Stopping", "Stopped"}
        assert "is in status Stopped" in refusal(unhurried.sagemaker.stop_transform_job, TransformJobName=name)[1]

    def test_fails_on_demand(self, account, model):
        account.faults({"transform": {"fail": "InternalServerError: no"}})
        account.put("demand/a.csv", csv(rows(3)))
        name = account.transform(model, account.uri("demand/"))
        assert account.transform_end(name)["FailureReason"] == "InternalServerError: no"

    def test_missing_jobs(self, account):
        code, message = refusal(account.sagemaker.describe_transform_job, TransformJobName="none")
        assert (code, message) == ("ValidationException", "Could not find requested job with name: none")

    def test_lists(self, account, model):
        account.put("listed/a.csv", csv(rows(3)))
        name = account.transform(model, account.uri("listed/"))
        account.transform_end(name)
        answer = account.sagemaker.list_transform_jobs(NameContains=name)
        check_shape("ListTransformJobs", answer)
        assert [job["TransformJobName"] for job in answer["TransformJobSummaries"]] == [name]
