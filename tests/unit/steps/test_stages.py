import pytest
from botocore.session import Session
from botocore.validate import validate_parameters

from baton_steps import stages
from baton_steps.errors import JobFailed
from tests.unit.steps import world

ARTEFACT = "s3://bucket/runs/r/model/job/output/model.tar.gz"


def machines(**changes):
    values = {
        "instance_type": "ml.m5.large",
        "instance_count": 1,
        "volume_gb": 50,
        "max_seconds": 3600,
        "spot_instances": False,
        "spot_wait_seconds": 600,
        "network_isolation": True,
    }
    return stages.Machines(**{**values, **changes})


def search(**changes):
    values = {
        "strategy": "Bayesian",
        "metric": "test:msd",
        "early_stopping": "Off",
        "max_jobs": 9,
        "parallel_jobs": 2,
        "fixed": {"k": "10", "feature_dim": "784"},
        "integers": {"mini_batch_size": (500, 600)},
        "categories": {"init_method": ["random", "kmeans++"]},
    }
    return stages.Search(**{**values, **changes})


@pytest.fixture(autouse=True)
def states(sagemaker):
    for job in ("training_job", "hyper_parameter_tuning_job", "transform_job"):
        sagemaker.states[job] = ["InProgress", "Completed"]
    sagemaker.states["endpoint"] = ["Creating", "InService"]


@pytest.fixture(autouse=True)
def checked_by_botocore(sagemaker, monkeypatch):
    """Check every create request against the API's own model."""
    model, create = Session().get_service_model("sagemaker"), sagemaker._create

    def check(api, parameter, request):
        operation = model.operation_model(f"Create{parameter}")
        validate_parameters(request, operation.input_shape)
        return create(api, parameter, request)

    monkeypatch.setattr(sagemaker, "_create", check)


def created(sagemaker, api):
    return next(thing for (kind, _), thing in sagemaker.things.items() if kind == api)


def finish_tuning(sagemaker, hyperparameters):
    best = f"{world.RUN_ID}-tune-007-abc"
    objective = {"MetricName": "test:msd", "Value": 37.5}
    sagemaker.put("training_job", best, HyperParameters=hyperparameters)
    sagemaker.extra["hyper_parameter_tuning_job"] = {
        "BestTrainingJob": {"TrainingJobName": best, "FinalHyperParameterTuningJobObjectiveMetric": objective}
    }


def test_tuning_returns_the_best_hyperparameters_without_the_objective(run, sagemaker):
    found = {"k": "10", "feature_dim": "784", "mini_batch_size": "512", "_tuning_objective_metric": "test:msd"}
    finish_tuning(sagemaker, found)
    best = stages.tune(run, search(), machines(), "s3://b/train", "s3://b/test", "s3://b/tuning/")
    assert best == {"k": "10", "feature_dim": "784", "mini_batch_size": "512"}


def test_the_tuning_request_is_the_seeds(run, sagemaker):
    finish_tuning(sagemaker, {})
    stages.tune(run, search(), machines(), "s3://b/train", "s3://b/test", "s3://b/tuning/")
    made = created(sagemaker, "hyper_parameter_tuning_job")
    assert made["HyperParameterTuningJobName"] == f"{world.RUN_ID}-tune"
    config, definition = made["HyperParameterTuningJobConfig"], made["TrainingJobDefinition"]
    assert config["ResourceLimits"] == {"MaxNumberOfTrainingJobs": 9, "MaxParallelTrainingJobs": 2}
    assert config["HyperParameterTuningJobObjective"] == {"Type": "Minimize", "MetricName": "test:msd"}
    assert config["ParameterRanges"]["IntegerParameterRanges"][0]["MinValue"] == "500"
    assert config["ParameterRanges"]["CategoricalParameterRanges"][0]["Values"] == ["random", "kmeans++"]
    assert definition["StaticHyperParameters"] == {"k": "10", "feature_dim": "784"}
    assert [(c["ChannelName"], c["ContentType"]) for c in definition["InputDataConfig"]] == [
        ("train", "application/x-recordio-protobuf"),
        ("test", "application/x-recordio-protobuf"),
    ]
    assert definition["EnableNetworkIsolation"] is True


def test_no_more_jobs_at_once_than_in_all(run, sagemaker):
    finish_tuning(sagemaker, {})
    stages.tune(run, search(max_jobs=1), machines(), "s3://b/train", "s3://b/test", "s3://b/tuning/")
    limits = created(sagemaker, "hyper_parameter_tuning_job")["HyperParameterTuningJobConfig"]["ResourceLimits"]
    assert limits == {"MaxNumberOfTrainingJobs": 1, "MaxParallelTrainingJobs": 1}


@pytest.mark.parametrize(
    ("integers", "methods", "jobs"),
    [
        ({"mini_batch_size": (500, 500), "extra_center_factor": (10, 10)}, ["random"], 1),
        ({"mini_batch_size": (500, 501), "extra_center_factor": (10, 10)}, ["random", "kmeans++"], 4),
        ({"mini_batch_size": (500, 508), "extra_center_factor": (10, 10)}, ["random"], 9),
    ],
)
def test_what_is_fixed_is_no_range_and_there_are_no_more_jobs_than_combinations(
    run, sagemaker, integers, methods, jobs
):
    finish_tuning(sagemaker, {})
    narrow = search(integers=integers, categories={"init_method": methods})
    stages.tune(run, narrow, machines(), "s3://b/train", "s3://b/test", "s3://b/tuning/")
    made = created(sagemaker, "hyper_parameter_tuning_job")
    config = made["HyperParameterTuningJobConfig"]
    assert config["ResourceLimits"]["MaxNumberOfTrainingJobs"] == jobs
    fixed = {name: str(low) for name, (low, high) in integers.items() if low == high}
    assert made["TrainingJobDefinition"]["StaticHyperParameters"] == {"k": "10", "feature_dim": "784", **fixed}
    tuned = [r["Name"] for r in config["ParameterRanges"]["IntegerParameterRanges"]]
    assert tuned == [name for name in integers if name not in fixed]


def test_tuning_that_found_nothing_fails(run, sagemaker):
    with pytest.raises(JobFailed, match="none of its training jobs reported test:msd"):
        stages.tune(run, search(), machines(), "s3://b/train", "s3://b/test", "s3://b/tuning/")


def test_training_uses_the_hyperparameters_and_returns_the_artefact(run, sagemaker):
    sagemaker.extra["training_job"] = {"ModelArtifacts": {"S3ModelArtifacts": ARTEFACT}}
    assert stages.train(run, {"k": "10"}, machines(), "s3://b/train", "s3://b/model/") == ARTEFACT
    made = created(sagemaker, "training_job")
    assert made["HyperParameters"] == {"k": "10"}
    assert [c["ChannelName"] for c in made["InputDataConfig"]] == ["train"]
    assert made["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600}


@pytest.mark.parametrize("key", [None, "arn:aws-cn:kms:cn-northwest-1:123456789012:key/1"])
def test_what_jobs_write_is_encrypted_with_the_runs_key(run, sagemaker, logs, key):
    """Where the stack has a key; without one, SageMaker is told none."""
    run = world.make_run({"sagemaker": sagemaker, "logs": logs}, kms_key_arn=key or "")
    finish_tuning(sagemaker, {})
    stages.tune(run, search(), machines(), "s3://b/train", "s3://b/test", "s3://b/tuning/")
    sagemaker.extra["training_job"] = {"ModelArtifacts": {"S3ModelArtifacts": ARTEFACT}}
    stages.train(run, {}, machines(), "s3://b/train", "s3://b/model/")
    stages.transform(run, "m", "s3://b/input/", "s3://b/predictions/", "ml.m5.large", 1, 4, 6)
    outputs = [
        sagemaker.things["hyper_parameter_tuning_job", run.name("tuning")]["TrainingJobDefinition"]["OutputDataConfig"],
        sagemaker.things["training_job", run.name("training")]["OutputDataConfig"],
        sagemaker.things["transform_job", run.name("transform")]["TransformOutput"],
    ]
    assert [output.get("KmsKeyId") for output in outputs] == [key] * 3


def test_spot_training_may_wait_longer_than_it_runs(run, sagemaker):
    sagemaker.extra["training_job"] = {"ModelArtifacts": {"S3ModelArtifacts": ARTEFACT}}
    stages.train(run, {}, machines(spot_instances=True), "s3://b/train", "s3://b/model/")
    made = created(sagemaker, "training_job")
    assert made["EnableManagedSpotTraining"] is True
    assert made["StoppingCondition"] == {"MaxRuntimeInSeconds": 3600, "MaxWaitTimeInSeconds": 4200}


def test_the_model_is_the_training_image_with_the_artefact(run, sagemaker):
    assert stages.make_model(run, ARTEFACT, True) == f"{world.RUN_ID}-model"
    container = created(sagemaker, "model")["PrimaryContainer"]
    assert container == {"Image": run.training_image, "ModelDataUrl": ARTEFACT}


def test_the_endpoint_has_one_variant_and_is_awaited(run, sagemaker):
    assert stages.serve(run, "m", "ml.m5.large", 1) == f"{world.RUN_ID}-endpoint"
    variant = created(sagemaker, "endpoint_config")["ProductionVariants"][0]
    assert (variant["ModelName"], variant["InitialInstanceCount"], variant["InitialVariantWeight"]) == ("m", 1, 1.0)
    assert created(sagemaker, "endpoint")["EndpointConfigName"] == f"{world.RUN_ID}-config"
    assert created(sagemaker, "endpoint")["EndpointStatus"] == "InService"


def test_the_transform_reads_csv_by_line_and_returns_its_output(run, sagemaker):
    output = stages.transform(run, "m", "s3://b/input/", "s3://b/predictions/", "ml.m5.large", 1, 4, 6)
    assert output == "s3://b/predictions/"
    made = created(sagemaker, "transform_job")
    assert made["TransformInput"]["ContentType"] == "text/csv"
    assert made["TransformInput"]["SplitType"] == "Line"
    assert (made["MaxConcurrentTransforms"], made["MaxPayloadInMB"]) == (4, 6)
