"""The committed pipeline: it is what its source compiles to, and holds what the control plane relies on."""

import re
import tomllib
import warnings
from pathlib import Path

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "pipelines" / "mnist_kmeans"
COMPILED = FOLDER / "pipeline.yaml"
RUNTIME = [
    "run_id", "execution_arn", "pipeline", "expires_at", "region", "table", "bucket", "role_arn", "training_image",
    "kms_key_arn", "container_image", "train_data", "test_data", "transform_input", "tuning_output", "model_output",
    "predictions_output", "poll_seconds",
]  # fmt: skip
TYPES = {str: "STRING", int: "NUMBER_INTEGER", float: "NUMBER_DOUBLE", bool: "BOOLEAN"}


@pytest.fixture(scope="module")
def ir():
    return yaml.safe_load(COMPILED.read_text())


@pytest.fixture(scope="module")
def settings():
    return tomllib.loads((FOLDER / "pipeline.toml").read_text())


def tasks_of(ir):
    yield from ir["root"]["dag"]["tasks"].items()
    for component in ir["components"].values():
        yield from component.get("dag", {}).get("tasks", {}).items()


def test_the_compiled_pipeline_is_current(tmp_path):
    # Imported here: to define the pipeline takes half a second.
    from kfp import compiler

    from pipelines.mnist_kmeans import pipeline

    fresh = tmp_path / "pipeline.yaml"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiler.Compiler().compile(pipeline.mnist_kmeans, str(fresh))
    assert pipeline.COMPILED == COMPILED
    assert fresh.read_bytes() == COMPILED.read_bytes(), "run: python -m pipelines.mnist_kmeans.pipeline"


def test_no_task_is_cached(ir):
    cached = {n: t.get("cachingOptions", {}) for n, t in tasks_of(ir) if "cachingOptions" in t}
    assert set(cached) == {"claim", "tuning", "training", "model", "endpoint", "transform", "announce-end"}
    assert not any(options.get("enableCache") for options in cached.values())


def test_no_task_installs_anything(ir):
    for executor in ir["deploymentSpec"]["executors"].values():
        words = " ".join(executor["container"]["command"])
        assert "kfp.dsl.executor_main" in words
        assert not re.search(r"\bpip\b|\bcurl\b|\bapt\b", words)


def test_every_image_is_the_runs_parameter(ir):
    images = {executor["container"]["image"] for executor in ir["deploymentSpec"]["executors"].values()}
    assert images == {"{{$.inputs.parameters['pipelinechannel--container_image']}}"}


def test_nothing_in_it_names_a_partition_a_region_or_a_registry():
    text = COMPILED.read_text()
    regions = r"\b[a-z]{2}(-gov|-iso[a-z]?)?-(north|south|east|west|central)[a-z]*-\d\b"
    assert not re.search(rf"arn:aws|amazonaws\.com|{regions}|dkr\.ecr|gcr\.io", text)


def test_its_parameters_are_those_that_the_launcher_gives(ir, settings):
    given = ir["root"]["inputDefinitions"]["parameters"]
    assert set(given) == {*RUNTIME, *settings["parameters"]}
    for name in RUNTIME:
        assert given[name]["parameterType"] == ("NUMBER_DOUBLE" if name == "poll_seconds" else "STRING")
    for name, parameter in settings["parameters"].items():
        assert given[name]["parameterType"] == TYPES[type(parameter["default"])], name


def test_the_seeds_order_of_the_tasks(ir):
    inner = ir["components"]["comp-exit-handler-1"]["dag"]["tasks"]
    needs = {name: set(task.get("dependentTasks", [])) for name, task in inner.items()}
    assert needs["claim"] == set()
    assert needs["tuning"] == {"claim"}
    assert needs["training"] == {"claim", "tuning"}
    assert needs["model"] == {"claim", "training"}
    assert needs["endpoint"] == needs["transform"] == {"claim", "model"}


def test_the_exit_task_is_told_the_status_and_the_run(ir):
    end = ir["root"]["dag"]["tasks"]["announce-end"]
    assert end["triggerPolicy"]["strategy"] == "ALL_UPSTREAM_TASKS_COMPLETED"
    assert end["inputs"]["parameters"]["status"] == {"taskFinalStatus": {"producerTask": "exit-handler-1"}}
    assert end["inputs"]["parameters"]["pipeline_run_id"]["runtimeValue"]["constant"] == "{{$.pipeline_job_uuid}}"


def test_the_defaults_are_the_seeds(settings):
    defaults = {name: parameter["default"] for name, parameter in settings["parameters"].items()}
    seed = {
        "k": 10, "feature_dim": 784, "tuning_strategy": "Bayesian", "tuning_metric": "test:msd",
        "tuning_early_stopping": "Off", "mini_batch_size_min": 500, "mini_batch_size_max": 600,
        "extra_center_factor_min": 10, "extra_center_factor_max": 20, "init_methods": "random,kmeans++",
        "max_tuning_jobs": 9, "parallel_tuning_jobs": 2, "training_instance_type": "ml.m5.large",
        "training_instance_count": 1, "training_volume_gb": 50, "training_max_seconds": 3600,
        "spot_instances": False, "network_isolation": True, "endpoint_instance_count": 1,
        "transform_max_concurrent": 4, "transform_max_payload_mb": 6,
    }  # fmt: skip
    assert {name: defaults[name] for name in seed} == seed


def test_every_default_is_within_its_own_bounds(settings):
    for name, parameter in settings["parameters"].items():
        default = parameter["default"]
        assert parameter["description"], name
        assert default in parameter.get("choices", [default]), name
        assert parameter.get("minimum", default) <= default <= parameter.get("maximum", default), name


def test_the_images_accounts_cover_both_chinese_regions_and_the_others(settings):
    accounts = settings["images"]["accounts"]
    assert (accounts["cn-north-1"], accounts["cn-northwest-1"]) == ("390948362332", "387376663083")
    assert len(accounts) == 37
    assert all(re.fullmatch(r"\d{12}", account) for account in accounts.values())
    assert settings["images"]["repository"] == "kmeans:1"


def test_the_components_only_import_what_the_image_contains():
    source = (FOLDER / "pipeline.py").read_text()
    inner = re.findall(r"^    (?:from|import) (\S+)", source, re.MULTILINE)
    assert {name.partition(".")[0] for name in inner} == {"baton_steps"}
