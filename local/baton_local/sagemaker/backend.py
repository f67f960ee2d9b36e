"""moto's SageMaker with the parts that Baton uses made real: one method for each call of the API."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from moto.sagemaker.models import SageMakerModelBackend

from baton_local.sagemaker import engine, storage, transform, tuning
from baton_local.sagemaker.endpoints import Deployment, Endpoint
from baton_local.sagemaker.errors import Refusal, in_use, not_found, validation
from baton_local.sagemaker.events import Description, Tags
from baton_local.sagemaker.kmeans import ClientError
from baton_local.sagemaker.listing import filtered, page
from baton_local.sagemaker.models import EndpointConfig, Model, check_endpoint_config_request, check_model_request
from baton_local.sagemaker.resources import Job, Resource
from baton_local.sagemaker.training import TrainingJob
from baton_local.sagemaker.transform import TransformJob
from baton_local.sagemaker.tuning import TuningJob

_Kept = TypeVar("_Kept", bound=Resource)
_Request = dict[str, Any]
_TAKEN = "Job name must be unique within an AWS account and region, and a job with this name already exists ({arn})"
_MAX_TAGS = 50
_UNSUPPORTED_TRANSFORM = ("DataProcessing", "DataCaptureConfig")


class Backend(SageMakerModelBackend):
    """SageMaker of one account in one region.

    The dictionaries are moto's, so that its tagging API finds what is in them. Methods named like an operation take
    the request as it came, checked against the model, and return the answer.
    """

    training_jobs: dict[str, TrainingJob]  # type: ignore[assignment]
    transform_jobs: dict[str, TransformJob]  # type: ignore[assignment]
    hyper_parameter_tuning_jobs: dict[str, TuningJob]  # type: ignore[assignment]
    endpoints: dict[str, Endpoint]  # type: ignore[assignment]
    endpoint_configs: dict[str, EndpointConfig]  # type: ignore[assignment]
    _models: dict[str, Model]  # type: ignore[assignment]

    def __init__(self, region_name: str, account_id: str) -> None:
        super().__init__(region_name, account_id)
        self.lock = threading.RLock()

    @property
    def _url_module(self) -> Any:
        # moto derives it from the module of the class, which is this one here.
        return importlib.import_module("moto.sagemaker.urls")

    def _arn(self, kind: str, name: str) -> str:
        return f"arn:{self.partition}:sagemaker:{self.region_name}:{self.account_id}:{kind}/{name}"

    def _find(self, things: dict[str, _Kept], name: str, missing: Refusal) -> _Kept:
        with self.lock:
            if name not in things:
                raise missing
            return things[name]

    @contextmanager
    def _new(self, things: dict[str, _Kept], name: str, taken: Refusal) -> Iterator[Callable[[_Kept], _Kept]]:
        """Refuse a name that is taken; what the block puts in by the yielded function is there for all at once."""
        with self.lock:
            if name in things:
                raise taken
            yield lambda thing: things.setdefault(name, thing)

    # Training jobs

    def call_create_training_job(self, request: _Request) -> Description:
        """CreateTrainingJob."""
        engine.check_role(request["RoleArn"])
        engine.check_output_key(request["RoleArn"], request["OutputDataConfig"])
        job = self._new_training_job(request, None)
        job.start()
        return {"TrainingJobArn": job.arn}

    def _new_training_job(self, request: _Request, tuning_arn: str | None) -> TrainingJob:
        name = request["TrainingJobName"]
        arn = self._arn("training-job", name)
        with self._new(self.training_jobs, name, in_use(_TAKEN.format(arn=arn))) as keep:
            if tuning_arn is None:
                self._check_limit("training", self.training_jobs, request["ResourceConfig"].get("InstanceType", ""))
            job = TrainingJob(arn, _tags(request), request)
            job.description["TuningJobArn"] = tuning_arn
            return keep(job)

    def _check_limit(self, kind: str, jobs: dict[str, Any], instance_type: str) -> None:
        running = [job for job in jobs.values() if not isinstance(job, Job) or job.running]
        engine.current().faults.check_limit(kind, running, instance_type)

    def call_describe_training_job(self, request: _Request) -> Description:
        """DescribeTrainingJob; what is missing is a ValidationException here (aws/aws-sdk#165)."""
        return self._training_job(request, validation("Requested resource not found.")).describe()

    def _training_job(self, request: _Request, missing: Refusal) -> TrainingJob:
        return self._find(self.training_jobs, request["TrainingJobName"], missing)

    def call_stop_training_job(self, request: _Request) -> None:
        """StopTrainingJob."""
        _stop(self._training_job(request, not_found()), "training job")

    def call_delete_training_job(self, request: _Request) -> None:
        """DeleteTrainingJob: only one that has ended."""
        job = self._training_job(request, not_found())
        _refuse_running(job, "training job")
        self.training_jobs.pop(job.name, None)

    def call_list_training_jobs(self, request: _Request) -> Description:
        """ListTrainingJobs."""
        jobs = self._described(self.training_jobs)
        return page(filtered(jobs, request, "TrainingJobName", "TrainingJobStatus"), request, "TrainingJobSummaries")

    def _described(self, things: dict[str, Any]) -> list[Description]:
        with self.lock:
            kept = list(things.values())
        return [thing.describe() for thing in kept]

    # Tuning jobs

    def call_create_hyper_parameter_tuning_job(self, request: _Request) -> Description:
        """CreateHyperParameterTuningJob."""
        tuning.check_request(request)
        definition = request["TrainingJobDefinition"]
        engine.check_role(definition["RoleArn"])
        engine.check_output_key(definition["RoleArn"], definition["OutputDataConfig"])
        name = request["HyperParameterTuningJobName"]
        arn = self._arn("hyper-parameter-tuning-job", name)
        with self._new(self.hyper_parameter_tuning_jobs, name, in_use(_TAKEN.format(arn=arn))) as keep:
            self._check_limit("tuning", self.hyper_parameter_tuning_jobs, "hyperparameter tuning jobs")
            job = keep(TuningJob(arn, _tags(request), request, self._new_training_job))
        job.start()
        return {"HyperParameterTuningJobArn": arn}

    def _tuning_job(self, request: _Request) -> TuningJob:
        return self._find(self.hyper_parameter_tuning_jobs, request["HyperParameterTuningJobName"], not_found())

    def call_describe_hyper_parameter_tuning_job(self, request: _Request) -> Description:
        """DescribeHyperParameterTuningJob."""
        return self._tuning_job(request).describe()

    def call_stop_hyper_parameter_tuning_job(self, request: _Request) -> None:
        """StopHyperParameterTuningJob."""
        _stop(self._tuning_job(request), "hyperparameter tuning job")

    def call_delete_hyper_parameter_tuning_job(self, request: _Request) -> None:
        """DeleteHyperParameterTuningJob: only one that has ended; its training jobs stay."""
        job = self._tuning_job(request)
        _refuse_running(job, "hyperparameter tuning job")
        self.hyper_parameter_tuning_jobs.pop(job.name, None)

    def call_list_hyper_parameter_tuning_jobs(self, request: _Request) -> Description:
        """ListHyperParameterTuningJobs."""
        jobs = self._described(self.hyper_parameter_tuning_jobs)
        for job in jobs:
            config = job["HyperParameterTuningJobConfig"]
            job |= {"Strategy": config["Strategy"], "ResourceLimits": config["ResourceLimits"]}
        found = filtered(jobs, request, "HyperParameterTuningJobName", "HyperParameterTuningJobStatus")
        return page(found, request, "HyperParameterTuningJobSummaries")

    def call_list_training_jobs_for_hyper_parameter_tuning_job(self, request: _Request) -> Description:
        """ListTrainingJobsForHyperParameterTuningJob; also by the objective's value."""
        summaries = self._tuning_job(request).summaries()
        found = filtered(summaries, request, "TrainingJobName", "TrainingJobStatus")
        if request.get("SortBy") == "FinalObjectiveMetricValue":
            found.sort(key=_objective_value, reverse=request.get("SortOrder") == "Descending")
        return page(found, request, "TrainingJobSummaries")

    # Transform jobs

    def call_create_transform_job(self, request: _Request) -> Description:
        """CreateTransformJob; an input prefix without objects is refused at once (amazon-sagemaker-examples#2414)."""
        for unsupported in _UNSUPPORTED_TRANSFORM:
            if request.get(unsupported):
                raise validation(f"The embedded cloud's batch transform knows no {unsupported}.")
        transform.check_request(request)
        model = self._model(request["ModelName"]).describe()
        engine.check_role(model["ExecutionRoleArn"])
        engine.check_output_key(model["ExecutionRoleArn"], request["TransformOutput"])
        self._check_input(request, model["ExecutionRoleArn"])
        name = request["TransformJobName"]
        arn = self._arn("transform-job", name)
        with self._new(self.transform_jobs, name, in_use(_TAKEN.format(arn=arn))) as keep:
            self._check_limit("transform", self.transform_jobs, request["TransformResources"].get("InstanceType", ""))
            job = keep(TransformJob(arn, _tags(request), request, model))
        job.start()
        return {"TransformJobArn": arn}

    def _check_input(self, request: _Request, role_arn: str) -> None:
        source = request["TransformInput"]["DataSource"]["S3DataSource"]
        if source["S3DataType"] != "S3Prefix":
            raise validation(f"The embedded cloud reads S3Prefix, not {source['S3DataType']}.")
        try:
            storage.list_objects(engine.current().session(role_arn, self.region_name), source["S3Uri"])
        except ClientError as error:
            raise validation(error.args[0]) from error

    def _transform_job(self, request: _Request) -> TransformJob:
        name = request["TransformJobName"]
        return self._find(self.transform_jobs, name, validation(f"Could not find requested job with name: {name}"))

    def call_describe_transform_job(self, request: _Request) -> Description:
        """DescribeTransformJob."""
        return self._transform_job(request).describe()

    def call_stop_transform_job(self, request: _Request) -> None:
        """StopTransformJob."""
        _stop(self._transform_job(request), "transform job")

    def call_list_transform_jobs(self, request: _Request) -> Description:
        """ListTransformJobs."""
        jobs = self._described(self.transform_jobs)
        found = filtered(jobs, request, "TransformJobName", "TransformJobStatus")
        return page(found, request, "TransformJobSummaries")

    # Models

    def call_create_model(self, request: _Request) -> Description:
        """CreateModel."""
        check_model_request(request, self.region_name)
        name = request["ModelName"]
        arn = self._arn("model", name)
        taken = validation(f'Cannot create already existing model "{arn}".')
        with self._new(self._models, name, taken) as keep:
            model = keep(Model(arn, _tags(request), request))
        model.announce()
        return {"ModelArn": arn}

    def _model(self, name: str) -> Model:
        return self._find(self._models, name, validation(f'Could not find model "{self._arn("model", name)}".'))

    def call_describe_model(self, request: _Request) -> Description:
        """DescribeModel."""
        return self._model(request["ModelName"]).describe()

    def call_delete_model(self, request: _Request) -> None:
        """DeleteModel; a model in use goes, too."""
        model = self._model(request["ModelName"])
        self._models.pop(model.name, None)
        model.announce()

    def call_list_models(self, request: _Request) -> Description:
        """ListModels."""
        return page(filtered(self._described(self._models), request, "ModelName", None), request, "Models")

    # Endpoint configurations

    def call_create_endpoint_config(self, request: _Request) -> Description:
        """CreateEndpointConfig."""
        check_endpoint_config_request(request)
        for variant in request["ProductionVariants"]:
            self._model(variant["ModelName"])
        name = request["EndpointConfigName"]
        arn = self._arn("endpoint-config", name)
        taken = validation(f'Cannot create already existing endpoint configuration "{arn}".')
        with self._new(self.endpoint_configs, name, taken) as keep:
            config = keep(EndpointConfig(arn, _tags(request), request))
        config.announce()
        return {"EndpointConfigArn": arn}

    def _endpoint_config(self, name: str) -> EndpointConfig:
        arn = self._arn("endpoint-config", name)
        return self._find(self.endpoint_configs, name, validation(f'Could not find endpoint configuration "{arn}".'))

    def call_describe_endpoint_config(self, request: _Request) -> Description:
        """DescribeEndpointConfig."""
        return self._endpoint_config(request["EndpointConfigName"]).describe()

    def call_delete_endpoint_config(self, request: _Request) -> None:
        """DeleteEndpointConfig."""
        config = self._endpoint_config(request["EndpointConfigName"])
        self.endpoint_configs.pop(config.name, None)
        config.announce()

    def call_list_endpoint_configs(self, request: _Request) -> Description:
        """ListEndpointConfigs."""
        found = filtered(self._described(self.endpoint_configs), request, "EndpointConfigName", None)
        return page(found, request, "EndpointConfigs")

    # Endpoints

    def call_create_endpoint(self, request: _Request) -> Description:
        """CreateEndpoint."""
        deployment = self._deployment(request["EndpointConfigName"])
        name = request["EndpointName"]
        arn = self._arn("endpoint", name)
        taken = validation(f'Cannot create already existing endpoint "{arn}".')
        with self._new(self.endpoints, name, taken) as keep:
            instance_type = deployment.config["ProductionVariants"][0].get("InstanceType", "")
            self._check_limit("endpoint", self.endpoints, instance_type)
            endpoint = keep(Endpoint(arn, _tags(request), request))
        endpoint.create(deployment)
        return {"EndpointArn": arn}

    def _deployment(self, config_name: str) -> Deployment:
        config = self._endpoint_config(config_name).describe()
        names = [variant["ModelName"] for variant in config["ProductionVariants"]]
        models = {name: self._models.get(name) for name in names}
        return Deployment(config, {name: model.describe() if model else None for name, model in models.items()})

    def endpoint(self, name: str) -> Endpoint:
        """Return an endpoint; raise ValidationException if there is none of that name."""
        return self._find(self.endpoints, name, validation(f'Could not find endpoint "{self._arn("endpoint", name)}".'))

    def call_describe_endpoint(self, request: _Request) -> Description:
        """DescribeEndpoint."""
        return self.endpoint(request["EndpointName"]).describe()

    def call_update_endpoint(self, request: _Request) -> Description:
        """UpdateEndpoint."""
        endpoint = self.endpoint(request["EndpointName"])
        endpoint.update(self._deployment(request["EndpointConfigName"]))
        return {"EndpointArn": endpoint.arn}

    def call_delete_endpoint(self, request: _Request) -> None:
        """DeleteEndpoint."""
        endpoint = self.endpoint(request["EndpointName"])
        endpoint.delete(lambda: self.endpoints.pop(endpoint.name, None))

    def call_list_endpoints(self, request: _Request) -> Description:
        """ListEndpoints."""
        found = filtered(self._described(self.endpoints), request, "EndpointName", "EndpointStatus")
        return page(found, request, "Endpoints")

    # Tags

    def call_add_tags(self, request: _Request) -> Description:
        """AddTags: a key that is there gets the new value."""
        resource = self._tagged(request["ResourceArn"])
        merged = {tag["Key"]: tag for tag in [*resource.tags, *request["Tags"]]}
        if len(merged) > _MAX_TAGS:
            raise validation(f"The resource would have more than {_MAX_TAGS} tags.")
        resource.tags = list(merged.values())
        return {"Tags": resource.tags}

    def call_list_tags(self, request: _Request) -> Description:
        """ListTags."""
        return page(self._tagged(request["ResourceArn"]).tags, request, "Tags", _MAX_TAGS)

    def call_delete_tags(self, request: _Request) -> Description:
        """DeleteTags."""
        resource = self._tagged(request["ResourceArn"])
        resource.tags = [tag for tag in resource.tags if tag["Key"] not in request["TagKeys"]]
        return {}

    def _tagged(self, arn: str) -> Any:
        try:
            resource = self._get_resource_from_arn(arn)
        except (AttributeError, ValueError):
            resource = None
        if resource is None or resource.arn != arn:
            raise validation(f"Could not find the resource {arn}.")
        return resource


def _objective_value(summary: Description) -> tuple[bool, float]:
    metric = summary.get("FinalHyperParameterTuningJobObjectiveMetric")
    return metric is None, metric["Value"] if metric else 0.0


def _tags(request: _Request) -> Tags:
    return list({tag["Key"]: dict(tag) for tag in request.get("Tags", ())}.values())


def _stop(job: Job, kind: str) -> None:
    if not job.stop():
        raise validation(f"The request was rejected because the {kind} is in status {job.status}.")


def _refuse_running(job: Job, kind: str) -> None:
    if job.running:
        raise in_use(f"The {kind} cannot be deleted because it is in status {job.status}.")
