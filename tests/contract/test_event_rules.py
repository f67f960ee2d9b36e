"""The template's EventBridge rules: which of the committed events each lets through, and what their targets get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from baton.ending import Request
from baton.events import read_signal
from baton.names import is_run_id, run_id_for
from baton_local.cloudformation.templates import load
from baton_local.event_input import RuleName, target_input
from baton_local.patterns import matches, validate_pattern

ROOT = Path(__file__).resolve().parents[2]
EVENTS = {path.stem: json.loads(path.read_text()) for path in sorted((ROOT / "events").glob("*.json"))}
MACHINE = "arn:{partition}:states:{region}:123456789012:stateMachine:baton-training-run"
REFERENCES = {"RunBucket": "baton-runs-123456789012"}

TRAINING, TUNING, TRANSFORM = "TrainingJobRule", "TuningJobRule", "TransformJobRule"
ENDPOINT, PIPELINE, ENDED, UPLOAD = "EndpointRule", "PipelineRunRule", "ExecutionEndRule", "UploadRule"

RULE_OF: dict[str, str | None] = {
    "pipeline_run_canceled": PIPELINE,
    "pipeline_run_failed": PIPELINE,
    "pipeline_run_foreign": None,
    "pipeline_run_malformed": None,
    "pipeline_run_of_a_loser": PIPELINE,
    "pipeline_run_of_another_source": None,
    "pipeline_run_of_no_run_id": PIPELINE,
    "pipeline_run_succeeded": PIPELINE,
    "s3_object_created": UPLOAD,
    "s3_object_created_by_a_run": None,
    "s3_object_created_empty": UPLOAD,
    "s3_object_created_folder": UPLOAD,
    "s3_object_created_foreign_bucket": None,
    "s3_object_created_multipart": UPLOAD,
    "s3_object_created_nested": UPLOAD,
    "s3_object_created_no_pipeline": UPLOAD,
    "s3_object_created_other_json": UPLOAD,
    "s3_object_created_oversized": UPLOAD,
    "s3_object_created_run_json": UPLOAD,
    "s3_object_created_same_bytes_again": UPLOAD,
    "s3_object_created_unknown_pipeline": UPLOAD,
    "s3_object_created_unversioned": UPLOAD,
    "s3_object_created_wrong_suffix": UPLOAD,
    "s3_object_deleted": None,
    "sagemaker_endpoint_config_created": None,
    "sagemaker_endpoint_creating": ENDPOINT,
    "sagemaker_endpoint_deleted": ENDPOINT,
    "sagemaker_endpoint_deleting": ENDPOINT,
    "sagemaker_endpoint_deployment_updating": ENDPOINT,
    "sagemaker_endpoint_failed": ENDPOINT,
    "sagemaker_endpoint_foreign": None,
    "sagemaker_endpoint_in_service": ENDPOINT,
    "sagemaker_endpoint_in_service_epoch_time": ENDPOINT,
    "sagemaker_endpoint_out_of_service": ENDPOINT,
    "sagemaker_endpoint_rolling_back": ENDPOINT,
    "sagemaker_endpoint_update_rollback_failed": ENDPOINT,
    "sagemaker_model_created": None,
    "sagemaker_training_job_completed": TRAINING,
    "sagemaker_training_job_completed_duplicate": TRAINING,
    "sagemaker_training_job_completed_in_china": TRAINING,
    "sagemaker_training_job_completed_without_artefacts": TRAINING,
    "sagemaker_training_job_failed": TRAINING,
    "sagemaker_training_job_failed_capacity": TRAINING,
    "sagemaker_training_job_foreign": None,
    "sagemaker_training_job_in_progress": TRAINING,
    "sagemaker_training_job_max_runtime_exceeded": TRAINING,
    # These two share the prefix, which is all that a pattern can tell; settle_outcome ignores them without a call.
    "sagemaker_training_job_of_a_colliding_prefix": TRAINING,
    "sagemaker_training_job_of_a_tuning_job": TRAINING,
    "sagemaker_training_job_starting": TRAINING,
    "sagemaker_training_job_stopped": TRAINING,
    "sagemaker_training_job_stopping": TRAINING,
    "sagemaker_training_job_without_status": TRAINING,
    "sagemaker_transform_job_completed": TRANSFORM,
    "sagemaker_transform_job_failed": TRANSFORM,
    "sagemaker_transform_job_failed_without_reason": TRANSFORM,
    "sagemaker_transform_job_in_progress": TRANSFORM,
    "sagemaker_transform_job_stopped": TRANSFORM,
    "sagemaker_transform_job_stopping": TRANSFORM,
    "sagemaker_tuning_job_completed": TUNING,
    "sagemaker_tuning_job_deleting": TUNING,
    "sagemaker_tuning_job_failed": TUNING,
    "sagemaker_tuning_job_in_progress": TUNING,
    "sagemaker_tuning_job_stopped": TUNING,
    "sagemaker_tuning_job_stopping": TUNING,
    "states_execution_aborted": ENDED,
    "states_execution_aborted_in_china": ENDED,
    "states_execution_failed": ENDED,
    "states_execution_of_another_machine": None,
    "states_execution_of_the_clean_up_machine": None,
    "states_execution_redriven": ENDED,
    "states_execution_running": None,
    "states_execution_succeeded": None,
    "states_execution_timed_out": ENDED,
}


def resolved(value: Any, references: dict[str, str]) -> Any:
    """Return a value with its references replaced, for a stack in which every condition holds."""
    if isinstance(value, dict):
        if set(value) == {"Ref"} and value["Ref"] in references:
            return references[value["Ref"]]
        if set(value) == {"Fn::If"}:
            return resolved(value["Fn::If"][1], references)
        return {name: resolved(inner, references) for name, inner in value.items()}
    return [resolved(inner, references) for inner in value] if isinstance(value, list) else value


TEMPLATE = load((ROOT / "template.yaml").read_text("utf-8"))


def rules(
    partition: str = "aws", region: str = "eu-west-1", prefix: str = "bt-", uploads: str = "uploads/"
) -> dict[str, dict[str, Any]]:
    """Return the properties of every rule with an event pattern, as a stack of that region would have them."""
    machine = MACHINE.format(partition=partition, region=region)
    references = {**REFERENCES, "RunPrefix": prefix, "UploadPrefix": uploads, "TrainingRunMachine": machine}
    found = {
        name: resolved(resource["Properties"], references)
        for name, resource in TEMPLATE["Resources"].items()
        if resource["Type"] == "AWS::Events::Rule"
    }
    return {name: rule for name, rule in found.items() if "EventPattern" in rule}


RULES = rules()
RULES_IN_CHINA = rules("aws-cn", "cn-northwest-1")


def rules_for(event: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rules of the stack in the event's region."""
    return RULES_IN_CHINA if event["region"].startswith("cn-") else RULES


def matching(event: dict[str, Any], among: dict[str, dict[str, Any]]) -> list[str]:
    """Return the names of the rules that let an event through."""
    return [name for name, rule in among.items() if matches(rule["EventPattern"], event)]


def test_the_table_has_every_event_and_every_rule() -> None:
    assert set(RULE_OF) == set(EVENTS)
    assert {rule for rule in RULE_OF.values() if rule} == set(RULES)


@pytest.mark.parametrize("name", RULES)
def test_every_pattern_is_one_that_eventbridge_takes(name: str) -> None:
    pattern = RULES[name]["EventPattern"]
    validate_pattern(pattern)
    assert not _has_references(pattern)


def _has_references(value: Any) -> bool:
    if isinstance(value, dict):
        return bool({"Ref", "Fn::Sub", "Fn::GetAtt", "Fn::If"} & set(value)) or any(
            map(_has_references, value.values())
        )
    return isinstance(value, list) and any(map(_has_references, value))


@pytest.mark.parametrize("name", EVENTS)
def test_each_event_passes_exactly_the_rule_that_it_should(name: str) -> None:
    expected = RULE_OF[name]
    assert matching(EVENTS[name], rules_for(EVENTS[name])) == ([expected] if expected else [])


@pytest.mark.parametrize("name", RULES)
def test_a_pattern_names_the_sources_and_types_of_the_events_that_it_is_for_and_no_others(name: str) -> None:
    pattern = RULES[name]["EventPattern"]
    events = [EVENTS[event] for event, rule in RULE_OF.items() if rule == name]
    assert set(pattern) == {"source", "detail-type", "detail"}
    assert sorted(pattern["source"]) == sorted({event["source"] for event in events})
    assert sorted(pattern["detail-type"]) == sorted({event["detail-type"] for event in events})


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("field", ["source", "detail-type"])
def test_no_rule_lets_a_like_event_of_another_source_or_type_through(name: str, field: str) -> None:
    assert matching({**EVENTS[name], field: "of.another"}, rules_for(EVENTS[name])) == []


@pytest.mark.parametrize("name", [name for name, rule in RULE_OF.items() if rule not in (None, UPLOAD, ENDED)])
def test_a_stack_of_another_prefix_sees_none_of_a_runs_events(name: str) -> None:
    assert matching(EVENTS[name], rules(prefix="ml-")) == []


@pytest.mark.parametrize("name", [name for name, rule in RULE_OF.items() if rule == UPLOAD])
def test_a_stack_with_another_folder_of_the_same_bucket_sees_none_of_this_ones_uploads(name: str) -> None:
    assert matching(EVENTS[name], rules(uploads="of-another/")) == []


@pytest.mark.parametrize("name", [name for name, rule in RULE_OF.items() if rule == ENDED])
def test_a_stack_elsewhere_sees_none_of_this_ones_executions(name: str) -> None:
    assert matching(EVENTS[name], rules(region="us-west-2")) == []


def test_every_event_that_ends_a_wait_gets_through() -> None:
    # What settle_outcome would act on must not be stopped by a rule; without tests of both an event could get lost.
    acted_on = [name for name, event in EVENTS.items() if read_signal(event) is not None]
    assert acted_on
    assert [name for name in acted_on if not matching(EVENTS[name], rules_for(EVENTS[name]))] == []


@pytest.mark.parametrize("name", [TRAINING, TUNING, TRANSFORM, ENDPOINT, PIPELINE])
def test_what_may_end_a_wait_goes_to_the_outcome_queue_unchanged(name: str) -> None:
    (target,) = RULES[name]["Targets"]
    assert target["Arn"] == {"Fn::GetAtt": ["OutcomeQueue", "Arn"]}
    assert target["DeadLetterConfig"] == {"Arn": {"Fn::GetAtt": ["DeadLetterQueue", "Arn"]}}
    assert not {"Input", "InputPath", "InputTransformer"} & set(target)


def test_every_rule_has_a_dead_letter_queue() -> None:
    for name, rule in RULES.items():
        assert all("DeadLetterConfig" in target for target in rule["Targets"]), name


@pytest.mark.parametrize("name", [name for name, rule in RULE_OF.items() if rule == ENDED])
def test_the_end_of_an_execution_is_valid_input_for_clean_up(name: str) -> None:
    event = EVENTS[name]
    (target,) = rules_for(event)[ENDED]["Targets"]
    assert target["Arn"] == {"Ref": "CleanUpRunMachine"}
    text = target_input(target, event, RuleName("arn:rule", "rule"), ingested_at=0)
    request = Request.parse(json.loads(text), "bt-")
    assert request.execution_arn == event["detail"]["executionArn"]
    assert request.run_id == run_id_for(request.execution_arn, event["detail"]["startDate"] // 1000)
    assert is_run_id(request.run_id)
    assert request.succeeded is None, "the event may be late, so clean-up asks how the execution ended"


def test_clean_up_derives_the_run_that_the_plan_derived() -> None:
    # Plan run has the start as ISO 8601 from the context object, the event as epoch milliseconds.
    event = EVENTS["states_execution_aborted"]
    (target,) = RULES[ENDED]["Targets"]
    request = Request.parse(json.loads(target_input(target, event, RuleName("arn:rule", "rule"), 0)), "bt-")
    planned = {"execution_arn": event["detail"]["executionArn"], "start_time": "2026-05-04T09:29:12.417Z"}
    assert request.run_id == Request.parse(planned, "bt-").run_id


def test_an_event_without_its_start_is_not_delivered_as_nonsense() -> None:
    event = json.loads(json.dumps(EVENTS["states_execution_aborted"]))
    del event["detail"]["startDate"]
    (target,) = RULES[ENDED]["Targets"]
    with pytest.raises(ValueError, match="input template"):
        target_input(target, event, RuleName("arn:rule", "rule"), 0)
