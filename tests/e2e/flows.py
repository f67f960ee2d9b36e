"""Flows that together need every permission that the stack gives, played once so that the decisions can be replayed.

Each flow is one story on a deployment: most of them go wrong on purpose. What they ask of IAM is in the embedded
cloud's log of decisions afterwards.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from baton.names import Names, tags_of
from baton_local import datasets
from baton_local.deployment import Deployment, repository
from baton_local.run import NotStarted, Run
from tests.e2e.conftest import QUICK, Stage, wait_until

PATIENCE_SECONDS = 45.0
JOBS = {
    "tuning": ("hyper_parameter_tuning_job", "HyperParameterTuningJob"),
    "training": ("training_job", "TrainingJob"),
    "transform": ("transform_job", "TransformJob"),
}
IMAGE = "438346466558.dkr.ecr.eu-west-1.amazonaws.com/kmeans:1"


class Flows:
    """Plays the flows on one stage; ``dataset_bucket`` is a bucket that the parameter DatasetBucketArns names."""

    def __init__(self, stage: Stage, dataset_bucket: str) -> None:
        self.stage = stage
        self.deployment: Deployment = stage.deployment
        self.dataset_bucket = dataset_bucket
        self.sagemaker = self.deployment.client("sagemaker")
        self.stepfunctions = self.deployment.client("stepfunctions")
        self.artefact = ""

    def all(self) -> list[Callable[[], None]]:
        """Return every flow, in the order in which they are to be played."""
        return [
            self.upload_that_succeeds,
            self.kept_endpoint_that_adopts,
            self.failing_training_job,
            self.failing_tuning_job,
            self.bad_dataset,
            self.dataset_without_versions,
            self.dataset_of_another_bucket,
            self.dataset_that_is_missing,
            self.input_that_is_refused,
            self.stopped_while_jobs_run,
            self.redriven_after_its_report,
            self.terminated_while_pods_wait,
            self.clean_up_that_cannot,
            self.refused_upload,
            self.run_file_that_is_gone,
            self.poison_message,
            self.event_that_no_function_takes,
            self.event_that_no_state_machine_takes,
            self.upload_that_start_run_cannot_start,
            self.thing_after_the_end,
        ]

    # --- runs that succeed --------------------------------------------------------------------------------------------

    def upload_that_succeeds(self) -> None:
        """A data set is uploaded; the endpoint is tested and deleted."""
        run = Run(self.deployment)
        result = run.follow(run.start(self.stage.good, {"parameters": QUICK}))
        assert (result.status, result.leftovers) == ("SUCCEEDED", [])
        job = self.sagemaker.describe_training_job(TrainingJobName=result.sagemaker["training"]["name"])
        self.artefact = job["ModelArtifacts"]["S3ModelArtifacts"]

    def kept_endpoint_that_adopts(self) -> None:
        """A pod finds model and configuration there, as if it had been rescheduled; the endpoint is kept."""
        run = Run(self.deployment)
        self.stage.sagemaker_faults(training={"match": "bt-*-train", "in_progress_seconds": 4})
        execution = run.start(self.stage.good, {"parameters": QUICK, "after": {"endpoint": "keep"}})
        run_id = self._run_id(execution)
        names = Names.of(run_id)
        self._wait_for_job("training", run_id)
        self._make_ahead(names)
        result = run.follow(execution)
        self.stage.sagemaker_faults()
        assert (result.status, result.leftovers) == ("SUCCEEDED", [])
        self.sagemaker.delete_endpoint(EndpointName=names.endpoint)
        self.sagemaker.delete_endpoint_config(EndpointConfigName=names.endpoint_config)
        self.sagemaker.delete_model(ModelName=names.model)

    def _make_ahead(self, names: Names) -> None:
        """Create the run's model and configuration, tagged as the run's, before its pods do."""
        job = self.sagemaker.describe_training_job(TrainingJobName=names.training)
        tags = self.sagemaker.list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
        self.sagemaker.create_model(
            ModelName=names.model,
            # The artefact of an earlier run: a model cannot be made of one that is still to be written.
            PrimaryContainer={"Image": job["AlgorithmSpecification"]["TrainingImage"], "ModelDataUrl": self.artefact},
            ExecutionRoleArn=self.deployment.outputs["SageMakerRoleArn"],
            Tags=tags,
        )
        variant = {"VariantName": "AllTraffic", "ModelName": names.model, "InitialInstanceCount": 1}
        self.sagemaker.create_endpoint_config(
            EndpointConfigName=names.endpoint_config,
            ProductionVariants=[{**variant, "InstanceType": "ml.m5.large"}],
            Tags=tags,
        )

    # --- runs that fail -----------------------------------------------------------------------------------------------

    def failing_training_job(self) -> None:
        """SageMaker fails the training job; its reason becomes the run's cause."""
        self.stage.sagemaker_faults(training={"match": "bt-*-train", "fail": "AlgorithmError: the disk is on fire"})
        result = self.stage.play()
        self.stage.sagemaker_faults()
        assert (result.error, result.leftovers) == ("JobFailed", [])

    def failing_tuning_job(self) -> None:
        """More clusters than rows: every training job of the tuning job fails, and clean-up asks one of them why."""
        dataset = datasets.small(self.stage.folder / "few.pkl.gz", 300)
        result = self.stage.play(dataset, {"parameters": {"k": 500}})
        assert (result.error, result.leftovers) == ("JobFailed", [])

    def bad_dataset(self) -> None:
        """The upload has the name of a data set, and is none."""
        self._refused(Run(self.deployment).start(self._bad(), None))

    def dataset_without_versions(self) -> None:
        """The same by a run.json, in a bucket whose versioning is suspended."""
        s3, bucket = self.deployment.client("s3"), self.deployment.bucket
        s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Suspended"})
        try:
            self._refused(Run(self.deployment).start(self._bad(), {}))
        finally:
            s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def dataset_of_another_bucket(self) -> None:
        """The same with the data set in a bucket of its own, first without versions and then with them."""
        s3, bucket = self.deployment.client("s3"), self.dataset_bucket
        for versions in (False, True):
            if versions:
                s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
            s3.upload_file(str(self._bad()), bucket, "bad.pkl.gz")
            self._refused(Run(self.deployment).start_execution({"dataset": f"s3://{bucket}/bad.pkl.gz"}))

    def _bad(self) -> Path:
        return self.stage.file("bad.pkl.gz", b"This is no pickle.\n")

    def _refused(self, execution: str) -> None:
        result = Run(self.deployment).follow(execution)
        assert (result.error, result.leftovers) == ("InvalidDataset", [])

    def dataset_that_is_missing(self) -> None:
        """The input names a data set that does not exist, which is told apart from one that may not be read."""
        execution = Run(self.deployment).start_execution({"dataset": f"s3://{self.deployment.bucket}/none.pkl"})
        result = Run(self.deployment).follow(execution)
        assert result.error == "InvalidInput"
        assert result.cause is not None
        assert "none.pkl does not exist" in result.cause
        assert "may not read" not in result.cause

    def input_that_is_refused(self) -> None:
        """The input of the execution is refused, so there never is a plan."""
        result = self.stage.play(given={"colour": "red"})
        assert (result.error, result.leftovers) == ("InvalidInput", [])

    def stopped_while_jobs_run(self) -> None:
        """A person stops the execution while a job of each kind is under way, and clean-up stops the job."""
        for kind in JOBS:
            with self._slow(kind):
                run, execution, run_id = self._started()
                self.stage.wait_for_state(execution, f"Await {kind}")
                self._wait_for_job(kind, run_id)
                self._leave_an_upload_unfinished(run_id)
                self.stepfunctions.stop_execution(executionArn=execution, error="Stopped", cause="A person stopped it.")
                run.wait_for_sweep(execution)
            self._nothing_is_left()

    def _leave_an_upload_unfinished(self, run_id: str) -> None:
        self.deployment.client("s3").create_multipart_upload(
            Bucket=self.deployment.bucket, Key=f"runs/{run_id}/tuning/half-written"
        )

    def redriven_after_its_report(self) -> None:
        """A run that kept its endpoint is stopped in Write report, swept and redriven: it replaces its report."""
        run, execution, run_id = self._started({"after": {"endpoint": "keep"}})
        self.stage.wait_for_state(execution, "Write report")
        self.stepfunctions.stop_execution(executionArn=execution)
        run.wait_for_sweep(execution)
        self.stepfunctions.redrive_execution(executionArn=execution)
        self._wait(lambda: self.stage.execution(execution)["status"] == "FAILED")
        assert self.stage.report(run_id)["error"] == "RunEnded"
        self._nothing_is_left()

    def terminated_while_pods_wait(self) -> None:
        """The pipeline run is terminated in Kubeflow Pipelines, so that each kind of waiting pod stops its own job."""
        for kind in JOBS:
            with self._slow(kind):
                run, execution, run_id = self._started()
                self._wait_for_job(kind, run_id)
                self._terminate_pipeline_run(run_id)
                result = run.follow(execution)
            assert (result.status, result.leftovers) == ("FAILED", [])

    def clean_up_that_cannot(self) -> None:
        """SageMaker refuses a deletion for good: the topic is told, and the janitor finishes once it may again.

        A round of the schedule's would take the run's turn, which it has once in an hour. And SageMaker throttles for a
        while in between, so that no clean-up that a late event starts finishes before the janitor has found the run.
        """
        with self.stage.without_hourly_rounds():
            self._refuse_to_delete_models("AccessDeniedException", "An SCP says no.")
            run, execution, run_id = self._started()
            self.stage.wait_for_state(execution, "Smoke-test endpoint")
            self.stepfunctions.stop_execution(executionArn=execution)
            run.wait_for_sweep(execution)
            assert "FAILED" in run.sweeps(execution).values()
            self._refuse_to_delete_models("ThrottlingException", "Rate exceeded")
            assert self.deployment.leftovers() != []
            assert run_id in [started["run_id"] for started in self.stage.make_janitors_round()["started"]]
            self.stage.sagemaker_faults()
            self._nothing_is_left()

    def _refuse_to_delete_models(self, code: str, message: str) -> None:
        self.stage.sagemaker_faults(refuse={"DeleteModel": {"code": code, "message": message}})

    # --- what starts nothing, or comes too late -----------------------------------------------------------------------

    def refused_upload(self) -> None:
        """An upload for a pipeline that does not exist is told to the topic."""
        try:
            Run(self.deployment).upload("uploads/no_such_pipeline/a.pkl", b"x")
        except NotStarted:
            return
        raise AssertionError("the upload started a run")

    def run_file_that_is_gone(self) -> None:
        """S3's event of a run.json comes once more, when that version has been deleted: its sender is told so."""
        s3, bucket, key = self.deployment.client("s3"), self.deployment.bucket, "uploads/mnist_kmeans/run.json"
        versions = s3.list_object_versions(Bucket=bucket, Prefix=key)["Versions"]
        version = next(one["VersionId"] for one in versions if one["VersionId"] != "null")
        s3.delete_object(Bucket=bucket, Key=key, VersionId=version)
        event = json.loads((repository() / "events" / "s3_object_created_run_json.json").read_text("utf-8"))
        event["detail"]["bucket"]["name"] = bucket
        event["detail"]["object"] |= {"key": key, "version-id": version}
        answer = self.deployment.client("lambda").invoke(
            FunctionName=self.deployment.physical_id("StartRunFunction"), Payload=json.dumps(event)
        )
        assert json.load(answer["Payload"]) == {"refused": "It was deleted or replaced before it could be read."}

    def poison_message(self) -> None:
        """A message that is no event goes to the dead-letter queue with its reason."""
        self.deployment.client("sqs").send_message(
            QueueUrl=self.deployment.outputs["OutcomeQueueUrl"], MessageBody="This is no event."
        )
        self._wait_for_dead_letter("This is no event.")

    def event_that_no_function_takes(self) -> None:
        """start_run may not be invoked for a while, so EventBridge puts an upload's event aside."""
        functions, name = self.deployment.client("lambda"), self.deployment.physical_id("StartRunFunction")
        permission = json.loads(functions.get_policy(FunctionName=name)["Policy"])["Statement"][0]
        functions.remove_permission(FunctionName=name, StatementId=permission["Sid"])
        key = "uploads/mnist_kmeans/put_aside.pkl"
        self.deployment.client("s3").put_object(Bucket=self.deployment.bucket, Key=key, Body=b"x")
        self._wait_for_dead_letter(key)
        functions.add_permission(
            FunctionName=name,
            StatementId=permission["Sid"],
            Action=permission["Action"],
            Principal=permission["Principal"]["Service"],
            SourceArn=permission["Condition"]["ArnLike"]["AWS:SourceArn"],
        )

    def event_that_no_state_machine_takes(self) -> None:
        """EventBridge may not start a clean-up for a while, so it puts the end of an execution aside."""
        with self._denied("ExecutionEndRole", "*"):
            execution = Run(self.deployment).start_execution({"colour": "red"})
            self._wait_for_dead_letter(execution)

    def upload_that_start_run_cannot_start(self) -> None:
        """start_run may start no executions for a while and fails three times, so Lambda puts the upload aside."""
        key = "uploads/mnist_kmeans/set_aside.pkl"
        with self._denied("StartRunRole", "states:StartExecution"):
            self.deployment.client("s3").put_object(Bucket=self.deployment.bucket, Key=key, Body=b"x")
            self._wait_for_dead_letter(key)

    @contextmanager
    def _denied(self, role: str, action: str) -> Iterator[None]:
        """Forbid a role an action for a while."""
        iam, name = self.deployment.client("iam"), self.deployment.physical_id(role)
        document = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": action, "Resource": "*"}]}
        iam.put_role_policy(RoleName=name, PolicyName="for-a-while", PolicyDocument=json.dumps(document))
        try:
            yield
        finally:
            iam.delete_role_policy(RoleName=name, PolicyName="for-a-while")

    def _wait_for_dead_letter(self, text: str) -> None:
        sqs, dead = self.deployment.client("sqs"), self.deployment.outputs["DeadLetterQueueUrl"]
        found: list[str] = []

        def arrived() -> bool:
            found.extend(message["Body"] for message in sqs.receive_message(QueueUrl=dead).get("Messages", []))
            return any(text in body for body in found)

        self._wait(arrived)

    def thing_after_the_end(self) -> None:
        """A training job appears when its run has ended already, as a pod that got stuck would make it."""
        execution = Run(self.deployment).start(self._bad(), {})
        self._refused(execution)
        run_id = self._run_id(execution)
        with self._slow("training"):
            self._make_late(run_id, execution)
            self._wait(lambda: self._status("training", run_id) == "Stopped")
        self._nothing_is_left()

    def _make_late(self, run_id: str, execution: str) -> None:
        place = f"s3://{self.deployment.bucket}/runs/{run_id}"
        self.deployment.client("s3").put_object(
            Bucket=self.deployment.bucket, Key=f"runs/{run_id}/data/train_data", Body=b"late"
        )
        source = {"S3DataType": "S3Prefix", "S3Uri": f"{place}/data/train_data"}
        self.sagemaker.create_training_job(
            TrainingJobName=Names.of(run_id).training,
            AlgorithmSpecification={"TrainingImage": IMAGE, "TrainingInputMode": "File"},
            RoleArn=self.deployment.outputs["SageMakerRoleArn"],
            HyperParameters={"k": "10", "feature_dim": "784"},
            InputDataConfig=[{"ChannelName": "train", "DataSource": {"S3DataSource": source}}],
            OutputDataConfig={"S3OutputPath": f"{place}/model/"},
            ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 5},
            StoppingCondition={"MaxRuntimeInSeconds": 600},
            Tags=[{"Key": k, "Value": v} for k, v in tags_of(run_id, execution, "mnist_kmeans", "2099-01-01").items()],
        )

    # --- tools --------------------------------------------------------------------------------------------------------

    def _started(self, given: dict[str, object] | None = None) -> tuple[Run, str, str]:
        run = Run(self.deployment)
        execution = run.start(self.stage.good, {"parameters": QUICK, **(given or {})})
        return run, execution, self._run_id(execution)

    def _run_id(self, execution: str) -> str:
        """Return the id of an execution's run, once it is planned."""
        run_id = Run(self.deployment).run_id(execution)
        self._wait(lambda: "execution_arn" in self.stage.row(run_id))
        return run_id

    @contextmanager
    def _slow(self, kind: str) -> Iterator[None]:
        match = {"match": "bt-*-train"} if kind == "training" else {}
        self.stage.sagemaker_faults(**{kind: {**match, "in_progress_seconds": 40}})
        try:
            yield
        finally:
            self.stage.sagemaker_faults()

    def _wait_for_job(self, kind: str, run_id: str) -> None:
        self._wait(lambda: self._status(kind, run_id) == "InProgress")

    def _status(self, kind: str, run_id: str) -> str:
        """Return the status of a run's job, or "" where there is none."""
        snake, camel = JOBS[kind]
        try:
            answer = getattr(self.sagemaker, f"describe_{snake}")(**{f"{camel}Name": Names.of(run_id).as_dict()[kind]})
        except self.sagemaker.exceptions.ClientError:
            return ""
        return str(answer[f"{camel}Status"])

    def _terminate_pipeline_run(self, run_id: str) -> None:
        found = self.deployment.kfp.run_called(run_id)
        url = f"{self.deployment.cloud.kfp_url}/apis/v2beta1/runs/{found['run_id']}:terminate"
        urllib.request.urlopen(urllib.request.Request(url, b"", method="POST"), timeout=10).close()

    def _nothing_is_left(self) -> None:
        self._wait(lambda: self.deployment.leftovers() == [])

    def _wait(self, true: Callable[[], bool]) -> None:
        wait_until(true, "it did not happen in time", pause=0.1, seconds=PATIENCE_SECONDS)
