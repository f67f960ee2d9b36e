"""A run in another partition, where ARNs, host names, images and the console are others."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from baton_local.cloud import EmbeddedCloud
from baton_local.deployment import Deployment, repository
from baton_local.dials import Dials
from tests.e2e.conftest import Stage, succeeded

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("china")]


def test_china_is_a_region_like_any_other_also_when_every_event_comes_twice(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with EmbeddedCloud(Dials(duplicate=1.0), speed=400, cache_dir=repository() / ".cache") as cloud:
        stage = Stage(Deployment.make(cloud, "cn-northwest-1"), tmp_path_factory.mktemp("china"))
        result = succeeded(stage.play())
        stepfunctions, sagemaker = stage.deployment.client("stepfunctions"), stage.deployment.client("sagemaker")
        job: dict[str, Any] = sagemaker.describe_training_job(TrainingJobName=result.sagemaker["training"]["name"])
        report = stage.report(str(result.run_id))
        seen = {
            "result": result.as_dict(),
            "history": stepfunctions.get_execution_history(executionArn=result.execution_arn, maxResults=1000)[
                "events"
            ],
            "training job": {**job, "ResponseMetadata": None},
            "report": report,
            "outputs": dict(stage.deployment.outputs),
        }
        executions = stepfunctions.list_executions(stateMachineArn=stage.deployment.state_machine)["executions"]
    assert [execution["executionArn"] for execution in executions] == [result.execution_arn]
    for what, content in seen.items():
        text = json.dumps(content, default=str)
        assert not re.findall(r"arn:aws:[^\"]*", text), what
        assert not re.findall(r"[\w.]*amazonaws\.com(?!\.cn)", text), what
    assert str(result.execution_arn).startswith("arn:aws-cn:states:cn-northwest-1:")
    image = job["AlgorithmSpecification"]["TrainingImage"]
    assert image == "387376663083.dkr.ecr.cn-northwest-1.amazonaws.com.cn/kmeans:1"
    assert seen["outputs"]["StateMachineConsole"].startswith("https://cn-northwest-1.console.amazonaws.cn/")
    assert "https://cn-northwest-1.console.amazonaws.cn/" in json.dumps(report["links"])
