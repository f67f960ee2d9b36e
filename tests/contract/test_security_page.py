"""docs/security.md names what the template has, and only that."""

from __future__ import annotations

import fnmatch
import json
import re
from pathlib import Path

from tests.support import key_policy, resolved_template
from tests.support.permissions import Reasons
from tools.lint.iam import statements

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text("utf-8")
RESOURCES = resolved_template.template()["Resources"]


def section(title: str) -> str:
    return PAGE.partition(f"## {title}\n")[2].partition("\n## ")[0].partition("\n### ")[0]


def first_cells(text: str) -> list[str]:
    rows = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    return rows[1:]


def test_every_role_is_in_the_table_and_no_other() -> None:
    named = {name.strip() for cell in first_cells(section("Who may do what")) for name in cell.split(",")}
    assert named == {name for name, resource in RESOURCES.items() if resource["Type"] == "AWS::IAM::Role"}


def test_only_alarms_are_bounded_to_the_account_in_the_policy_of_a_key() -> None:
    """AWS: such a condition "is not supported for EventBridge-to-encrypted topics", and nothing would tell."""
    found = {s["Principal"]["Service"]: s.get("Condition") for s in key_policy.statements("1")}
    bounded = {"StringEquals": {"aws:SourceAccount": "1"}}
    del found["logs.eu-west-1.amazonaws.com"]
    assert found == {"events.amazonaws.com": None, "cloudwatch.amazonaws.com": bounded}


def test_every_star_has_its_row() -> None:
    stars = {s.sid for s in statements(RESOURCES) if s.resources == ("*",) and s.raw["Effect"] == "Allow"}
    managed = Reasons.read(ROOT / "tests" / "e2e" / "permissions_reasons.toml").managed_policies
    cells = " ".join(first_cells(PAGE.partition("### Every `*` and its reason\n")[2].partition("\n## ")[0]))
    assert stars | set(managed) == set(re.findall(r"[A-Z]\w+", re.sub(r"`\w*Vpc\w*`|with|only", " ", cells)))


def test_the_log_of_the_state_machines_has_every_state_without_its_data() -> None:
    assert "the log group gets the states without their data (`IncludeExecutionData: false`)" in PAGE
    operations = (ROOT / "docs" / "operations.md").read_text("utf-8")
    assert "every state that was entered and left, without its data" in operations
    machines = resolved_template.of_type("AWS::StepFunctions::StateMachine", {})
    assert len(machines) == 2
    for machine in machines.values():
        logging = machine["LoggingConfiguration"]
        assert (logging["Level"], logging["IncludeExecutionData"]) == ("ALL", False)
        assert logging["Destinations"] == [{"CloudWatchLogsLogGroup": {"LogGroupArn": "Arn-of-MachineLogs"}}]


def test_what_the_page_points_to_is_there() -> None:
    for path in re.findall(r"`((?:tests|tools|deploy|docs)/[\w./-]+)`", PAGE):
        assert (ROOT / path).exists(), path


def test_what_may_be_denied_to_a_pod_without_a_cause_is_of_its_role() -> None:
    """The steps' modules console, jobs and failures survive these, and nobody notes those of the claim and the end."""
    told = PAGE.partition("What is denied to a pod")[2].partition("\n- **")[0]
    named = re.findall(r"`(\w+:\w+\*?)`", told)
    assert {name.split(":")[0] for name in named} == {"logs", "sagemaker", "dynamodb", "events"}
    pods = {action for s in statements(RESOURCES) if s.where == "PipelineRole pipeline" for action in s.actions}
    assert [name for name in named if not fnmatch.filter(pods, name)] == []


def test_the_page_names_parameters_that_there_are() -> None:
    template = (ROOT / "template.yaml").read_text("utf-8")
    for name in re.findall(r"`((?:Kfp|Vpc|Kms|Pod|Dataset|Run|Eks|Oidc)[A-Z]\w+)(?:=[\w-]+)?`", PAGE):
        assert f"\n  {name}:" in template, name


def test_the_endpoints_are_those_of_the_services_that_the_functions_in_the_vpc_call() -> None:
    """Lambda itself takes logs, traces and network interfaces, and DynamoDB, S3 and SQS call KMS."""
    functions = {
        name.removesuffix("Function"): re.sub(r"(?<!^)(?=[A-Z])", "_", name.removesuffix("Function")).lower()
        for name, resource in RESOURCES.items()
        if resource["Type"] == "AWS::Lambda::Function" and "VpcConfig" in resource["Properties"]
    }
    called = {
        (action.split(":")[0], function)
        for name, function in functions.items()
        for statement in statements(RESOURCES)
        if statement.where.split()[0] in _policies(f"{name}Role") and not statement.trust
        for action in statement.actions
    }
    rows = re.findall(
        r"^\| [^|]+ \| `([\w.]+)`[^|]* \| ([\w, ]+) \|$", section("In a VPC, and with a private cluster"), re.M
    )
    said = {
        (endpoint.removesuffix(".api"), function)
        for endpoint, who in rows
        for function in (functions.values() if who == "all four" else who.split(", "))
    }
    assert len(functions) == 4
    taken_by_lambda_and_others = {"logs", "xray", "ec2", "kms"}
    assert said == {(service, function) for service, function in called if service not in taken_by_lambda_and_others}


def _policies(role: str) -> set[str]:
    """Return the role and the managed policies of the stack that it may have."""
    attached = json.dumps(RESOURCES[role]["Properties"].get("ManagedPolicyArns", []))
    return {role, *re.findall(r'"Ref": "(\w+)"', attached)}


def test_there_is_one_table_of_endpoints() -> None:
    operations = (ROOT / "docs" / "operations.md").read_text("utf-8")
    assert "`sagemaker.api`" not in operations
    assert "security.md#in-a-vpc-and-with-a-private-cluster" in operations
