"""The MNIST k-means pipeline in the Kubeflow Pipelines DSL: tuning, training, model, then transform and endpoint.

``python -m pipelines.mnist_kmeans.pipeline`` compiles it into ``pipeline.yaml`` beside this file, which is what the
control plane uploads. The components are thin: all they do is call ``baton_steps``, which the steps' image contains.
The image is a parameter of the run, so neither a registry nor an account stands in the compiled pipeline.
"""

import functools
from pathlib import Path
from typing import Any

from kfp import compiler, dsl  # type: ignore[import-untyped]

COMPILED = Path(__file__).with_name("pipeline.yaml")

# The base image is never pulled: every task takes the run's container image instead.
step = functools.partial(dsl.component, base_image="python:3.13-slim", install_kfp_package=False)


@step
def claim(
    run_id: str,
    execution_arn: str,
    pipeline: str,
    expires_at: str,
    region: str,
    table: str,
    role_arn: str,
    training_image: str,
    kms_key_arn: str,
    poll_seconds: float,
    pipeline_run_id: str,
) -> dict:  # type: ignore[type-arg]
    """Claim the run's work for this pipeline run, or end it; returns the run, for the other steps."""
    from baton_steps import claim
    from baton_steps.run import Run

    run = Run(
        run_id=run_id,
        execution_arn=execution_arn,
        pipeline=pipeline,
        expires_at=expires_at,
        region=region,
        table=table,
        role_arn=role_arn,
        training_image=training_image,
        kms_key_arn=kms_key_arn,
        poll_seconds=poll_seconds,
    )
    return claim.claim(run, pipeline_run_id)


@step
def tuning(
    run: dict,  # type: ignore[type-arg]
    train_data: str,
    test_data: str,
    output: str,
    k: int,
    feature_dim: int,
    strategy: str,
    metric: str,
    early_stopping: str,
    max_jobs: int,
    parallel_jobs: int,
    mini_batch_size_min: int,
    mini_batch_size_max: int,
    extra_center_factor_min: int,
    extra_center_factor_max: int,
    init_methods: str,
    instance_type: str,
    instance_count: int,
    volume_gb: int,
    max_seconds: int,
    spot_instances: bool,
    spot_wait_seconds: int,
    network_isolation: bool,
) -> dict:  # type: ignore[type-arg]
    """Look for the best hyperparameters; returns them."""
    from baton_steps import stages
    from baton_steps.run import Run

    search = stages.Search(
        strategy=strategy,
        metric=metric,
        early_stopping=early_stopping,
        max_jobs=max_jobs,
        parallel_jobs=parallel_jobs,
        fixed={"k": str(k), "feature_dim": str(feature_dim)},
        integers={
            "mini_batch_size": (mini_batch_size_min, mini_batch_size_max),
            "extra_center_factor": (extra_center_factor_min, extra_center_factor_max),
        },
        categories={"init_method": init_methods.split(",")},
    )
    machines = stages.Machines(
        instance_type=instance_type,
        instance_count=instance_count,
        volume_gb=volume_gb,
        max_seconds=max_seconds,
        spot_instances=spot_instances,
        spot_wait_seconds=spot_wait_seconds,
        network_isolation=network_isolation,
    )
    return stages.tune(Run.of(run), search, machines, train_data, test_data, output)


@step
def training(
    run: dict,  # type: ignore[type-arg]
    hyperparameters: dict,  # type: ignore[type-arg]
    train_data: str,
    output: str,
    instance_type: str,
    instance_count: int,
    volume_gb: int,
    max_seconds: int,
    spot_instances: bool,
    spot_wait_seconds: int,
    network_isolation: bool,
) -> str:
    """Train with the best hyperparameters; returns the S3 URI of the model artefact."""
    from baton_steps import stages
    from baton_steps.run import Run

    machines = stages.Machines(
        instance_type=instance_type,
        instance_count=instance_count,
        volume_gb=volume_gb,
        max_seconds=max_seconds,
        spot_instances=spot_instances,
        spot_wait_seconds=spot_wait_seconds,
        network_isolation=network_isolation,
    )
    return stages.train(Run.of(run), hyperparameters, machines, train_data, output)


@step
def model(run: dict, artefact: str, network_isolation: bool) -> str:  # type: ignore[type-arg]
    """Create the SageMaker model; returns its name."""
    from baton_steps import stages
    from baton_steps.run import Run

    return stages.make_model(Run.of(run), artefact, network_isolation)


@step
def endpoint(run: dict, model: str, instance_type: str, instance_count: int) -> str:  # type: ignore[type-arg]
    """Create the endpoint and wait until it is in service; returns its name."""
    from baton_steps import stages
    from baton_steps.run import Run

    return stages.serve(Run.of(run), model, instance_type, instance_count)


@step
def transform(
    run: dict,  # type: ignore[type-arg]
    model: str,
    data: str,
    output: str,
    instance_type: str,
    instance_count: int,
    max_concurrent: int,
    max_payload_mb: int,
) -> str:
    """Predict the held-out rows in a batch transform job; returns the S3 URI of the predictions."""
    from baton_steps import stages
    from baton_steps.run import Run

    return stages.transform(
        Run.of(run), model, data, output, instance_type, instance_count, max_concurrent, max_payload_mb
    )


@step
def announce_end(run_id: str, pipeline_run_id: str, region: str, status: dsl.PipelineTaskFinalStatus) -> None:
    """Tell the control plane that this pipeline run ends, and how."""
    from baton_steps import events

    events.announce_end(run_id, pipeline_run_id, status.state, region)


def _in_pod(task: dsl.PipelineTask, image: Any, retries: int = 0) -> dsl.PipelineTask:
    # A cached result would stand for a job that this run never made.
    task.set_container_image(image)
    task.set_caching_options(False)
    if retries:
        # For a pod that dies without SIGTERM: the second attempt adopts the job of the first, which SIGTERM would stop.
        task.set_retry(num_retries=retries, backoff_duration="1s", backoff_factor=1.0)
    return task


@dsl.pipeline(  # type: ignore[untyped-decorator]
    name="mnist-kmeans",
    description="Groups handwritten digits into k clusters with SageMaker's built-in k-means, and serves the clusters.",
)
def mnist_kmeans(
    run_id: str,
    execution_arn: str,
    pipeline: str,
    expires_at: str,
    region: str,
    table: str,
    bucket: str,  # noqa: ARG001 (every pipeline is given it)
    role_arn: str,
    training_image: str,
    kms_key_arn: str,
    container_image: str,
    train_data: str,
    test_data: str,
    transform_input: str,
    tuning_output: str,
    model_output: str,
    predictions_output: str,
    poll_seconds: float,
    k: int,
    feature_dim: int,
    tuning_strategy: str,
    tuning_metric: str,
    tuning_early_stopping: str,
    max_tuning_jobs: int,
    parallel_tuning_jobs: int,
    mini_batch_size_min: int,
    mini_batch_size_max: int,
    extra_center_factor_min: int,
    extra_center_factor_max: int,
    init_methods: str,
    training_instance_type: str,
    training_instance_count: int,
    training_volume_gb: int,
    training_max_seconds: int,
    spot_instances: bool,
    spot_wait_seconds: int,
    network_isolation: bool,
    endpoint_instance_type: str,
    endpoint_instance_count: int,
    transform_instance_type: str,
    transform_instance_count: int,
    transform_max_concurrent: int,
    transform_max_payload_mb: int,
) -> None:
    """Define the tasks; the parameters without a description stand in ``pipeline.toml`` with their defaults."""
    end = announce_end(run_id=run_id, pipeline_run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER, region=region)
    _in_pod(end, container_image)
    machines = {
        "instance_type": training_instance_type,
        "instance_count": training_instance_count,
        "volume_gb": training_volume_gb,
        "max_seconds": training_max_seconds,
        "spot_instances": spot_instances,
        "spot_wait_seconds": spot_wait_seconds,
        "network_isolation": network_isolation,
    }
    with dsl.ExitHandler(end, name="work"):
        claimed = claim(
            run_id=run_id,
            execution_arn=execution_arn,
            pipeline=pipeline,
            expires_at=expires_at,
            region=region,
            table=table,
            role_arn=role_arn,
            training_image=training_image,
            kms_key_arn=kms_key_arn,
            poll_seconds=poll_seconds,
            pipeline_run_id=dsl.PIPELINE_JOB_ID_PLACEHOLDER,
        )
        run = _in_pod(claimed, container_image).output
        tuned = tuning(
            run=run,
            train_data=train_data,
            test_data=test_data,
            output=tuning_output,
            k=k,
            feature_dim=feature_dim,
            strategy=tuning_strategy,
            metric=tuning_metric,
            early_stopping=tuning_early_stopping,
            max_jobs=max_tuning_jobs,
            parallel_jobs=parallel_tuning_jobs,
            mini_batch_size_min=mini_batch_size_min,
            mini_batch_size_max=mini_batch_size_max,
            extra_center_factor_min=extra_center_factor_min,
            extra_center_factor_max=extra_center_factor_max,
            init_methods=init_methods,
            **machines,
        )
        trained = training(
            run=run,
            hyperparameters=_in_pod(tuned, container_image, retries=1).output,
            train_data=train_data,
            output=model_output,
            **machines,
        )
        made = model(
            run=run,
            artefact=_in_pod(trained, container_image, retries=1).output,
            network_isolation=network_isolation,
        )
        name = _in_pod(made, container_image, retries=1).output
        served = endpoint(
            run=run, model=name, instance_type=endpoint_instance_type, instance_count=endpoint_instance_count
        )
        _in_pod(served, container_image, retries=1)
        transformed = transform(
            run=run,
            model=name,
            data=transform_input,
            output=predictions_output,
            instance_type=transform_instance_type,
            instance_count=transform_instance_count,
            max_concurrent=transform_max_concurrent,
            max_payload_mb=transform_max_payload_mb,
        )
        _in_pod(transformed, container_image, retries=1)


if __name__ == "__main__":
    compiler.Compiler().compile(mnist_kmeans, str(COMPILED))
