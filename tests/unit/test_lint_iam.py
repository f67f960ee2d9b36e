"""The static checks of policies and packages find what is wrong."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from tools.lint import iam, sizes

ROOT = Path(__file__).parents[2]
BUS = "arn:aws:events:eu-west-1:123456789012:event-bus/default"
MODEL = "arn:aws:sagemaker:eu-west-1:123456789012:model/m"
QUEUE = "arn:aws:sqs:eu-west-1:123456789012:q"
TABLE = "arn:aws:dynamodb:eu-west-1:123456789012:table/t"
ROLE = "arn:aws:iam::123456789012:role/SageMakerRole"


def policy(statement: str) -> str:
    """A template with one managed policy that has one statement, given as YAML."""
    return textwrap.dedent(
        """
        AWSTemplateFormatVersion: "2010-09-09"
        Transform: AWS::Serverless-2016-10-31
        Resources:
          Policy:
            Type: AWS::IAM::ManagedPolicy
            Properties:
              PolicyDocument:
                Version: "2012-10-17"
                Statement:
        """
    ) + textwrap.indent(textwrap.dedent(statement).strip(), " " * 10)


def statement(action: str, resource: str, condition: str = "{}") -> str:
    return policy(
        f'- Sid: One\n  Effect: Allow\n  Action: {action}\n  Resource: "{resource}"\n  Condition: {condition}\n'
    )


def test_the_template_has_no_problem() -> None:
    assert iam.problems((ROOT / "template.yaml").read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("action", "resource", "condition"),
    [
        ("dynamodb:GetItem", TABLE, "{}"),
        (
            "[dynamodb:GetItem, dynamodb:Query]",
            f"{TABLE}*",
            '{"ForAllValues:StringEquals": {"dynamodb:LeadingKeys": run}}',
        ),
        ("events:PutEvents", BUS, '{"ForAnyValue:StringLike": {"events:source": "baton.*"}}'),
        (
            "events:PutEvents",
            BUS,
            '{"ForAllValues:StringEquals": {"events:source": x}, "Null": {"events:source": "false"}}',
        ),
        ("sagemaker:AddTags", MODEL, '{StringLike: {"aws:RequestTag/a": "x*"}}'),
        ("sagemaker:AddTags", MODEL, '{"ForAnyValue:StringEquals": {"aws:TagKeys": a}}'),
        ("sqs:SendMessage", QUEUE, '{ArnLike: {"aws:SourceArn": "arn:aws:events:*:*:rule/r"}}'),
        ("s3:GetObject", "arn:aws:s3:::bucket/runs/*", "{}"),
        ("s3:ListBucket", "arn:aws:s3:::bucket", '{StringLike: {"s3:prefix": "runs/*"}}'),
        ("sqs:SendMessage", QUEUE, '{StringEquals: {"aws:SourceAccount": "1"}}'),
        ("iam:PassRole", ROLE, '{StringEquals: {"iam:PassedToService": sagemaker.amazonaws.com}}'),
    ],
)
def test_a_right_statement_passes(action: str, resource: str, condition: str) -> None:
    assert iam.problems(statement(action, resource, condition)) == []


@pytest.mark.parametrize(
    ("action", "resource", "condition", "problem"),
    [
        ("dynamodb:ReadItem", TABLE, "{}", "no action dynamodb:ReadItem"),
        ("dynamobd:GetItem", TABLE, "{}", "no action dynamobd:GetItem"),
        ("dynamodb:GetItem", "arn:aws:dynamodb:eu-west-1:1:stream/t", "{}", "GetItem works on none of"),
        ("s3:GetObject", "arn:aws:s3:::bucket", "{}", "s3:GetObject works on none of"),
        ("s3:ListBucket", "arn:aws:s3:::bucket/*", "{}", "s3:ListBucket works on none of"),
        ("states:SendTaskSuccess", "arn:aws:states:eu-west-1:1:stateMachine:m", "{}", "supports no resource"),
        ("dynamodb:GetItem", TABLE, '{StringEquals: {"s3:prefix": x}}', "no condition key s3:prefix"),
        ("dynamodb:GetItem", TABLE, '{StringEquals: {"aws:RequestTag/a": x}}', "no condition key aws:RequestTag/a"),
        ("sagemaker:AddTags", MODEL, '{StringEquals: {"aws:RequesTag/a": x}}', "no condition key aws:RequesTag/a"),
        ("events:PutEvents", BUS, '{StringEquals: {"events:source": x}}', "needs ForAllValues or ForAnyValue"),
        ("events:PutEvents", BUS, '{"ForAllValues:StringEquals": {"events:source": x}}', "it needs Null beside it"),
        ("events:PutEvents", BUS, '{"ForAnyValue:ArnLike": {"events:source": x}}', "does not compare events:source"),
        ("sagemaker:AddTags", MODEL, '{"ForAnyValue:StringEquals": {"aws:RequestTag/a": x}}', "needs no ForAllValues"),
        ("sagemaker:AddTags", MODEL, '{StringEquals: {"aws:TagKeys": a}}', "needs ForAllValues or ForAnyValue"),
        ("s3:ListBucket", "arn:aws:s3:::bucket", '{ArnLike: {"s3:prefix": "x"}}', "does not compare s3:prefix"),
        ("iam:PassRole", ROLE, "{}", "needs iam:PassedToService"),
        (
            "iam:PassRole",
            "arn:aws:iam::123456789012:role/S*",
            '{StringEquals: {"iam:PassedToService": sagemaker.amazonaws.com}}',
            "on the SageMaker role only",
        ),
    ],
)
def test_a_wrong_statement_is_told(action: str, resource: str, condition: str, problem: str) -> None:
    found = iam.problems(statement(action, resource, condition))
    assert any(problem in line for line in found), found
    assert all(line.startswith("Policy, One: ") for line in found)


def test_a_resource_that_no_action_works_on_is_told() -> None:
    text = policy(
        f"- Sid: One\n  Effect: Allow\n  Action: dynamodb:GetItem\n  Resource: [{TABLE}, 'arn:aws:s3:::bucket/*']"
    )
    assert iam.problems(text) == ["Policy, One: none of its actions works on arn:aws:s3:::bucket/*"]


def test_an_action_that_supports_resources_needs_one_unless_aws_asks_without() -> None:
    assert "Policy, One: ec2:RunInstances works on none of *" in iam.problems(statement("ec2:RunInstances", "*"))
    explained = statement("ec2:CreateNetworkInterface", "*").replace(
        "          - Sid", "          # Why\n          - Sid"
    )
    assert iam.problems(explained) == []


def test_every_resource_needs_a_written_reason() -> None:
    bare = statement("xray:PutTraceSegments", "*")
    assert len(iam.unexplained_stars(bare)) == 1
    explained = bare.replace("          - Sid: One", "          # X-Ray supports no resource.\n          - Sid: One")
    assert explained != bare
    assert iam.problems(explained) == []


@pytest.mark.parametrize(
    ("resource", "star"),
    [
        ("'*'", "*"),
        ('["*"]', "*"),
        ('!Join ["", ["arn:aws:sagemaker:", !Ref AWS::Region, ":1:endpoint/*"]]', ":1:endpoint/*"),
        ('!Sub ["arn:aws:sagemaker:eu-west-1:1:endpoint/${X}", {X: "*"}]', "endpoint/*"),
        ('!Join [":", !Ref Parts]', ""),
        ('{"Fn::Sub": ["arn:aws:sagemaker:eu-west-1:1:endpoint/${X}", {X: "*"}]}', "endpoint/*"),
        ('!Join ["", ["arn:aws:sagemaker:eu-west-1:1:endpoint/", !Ref Prefix, "*"]]', ""),
        ('\n    - "*"', "*"),
        ('"arn:aws:sagemaker:*:*:*"', "arn:aws:sagemaker:*:*:*"),
        ('!Sub "arn:${AWS::Partition}:sagemaker:${AWS::Region}:${AWS::AccountId}:endpoint/*"', "endpoint/*"),
        ('!If [InChina, !Sub "arn:${AWS::Partition}:s3:::bucket", "*"]', "*"),
        ('!Sub "arn:${AWS::Partition}:sagemaker:${AWS::Region}:${AWS::AccountId}:endpoint/${RunPrefix}*"', ""),
        ('!Sub ["arn:${AWS::Partition}:s3:::${Bucket}/*", {Bucket: !Ref RunBucket}]', ""),
    ],
)
def test_every_resource_is_seen_however_it_is_written(resource: str, star: str) -> None:
    text = policy(f"- Effect: Allow\n  Action: sagemaker:InvokeEndpoint\n  Resource: {resource}\n")
    found = iam.unexplained_stars(text)
    assert [line.partition("Resource ")[2].partition(" without")[0].endswith(star) for line in found] == [True][
        : bool(star)
    ]


ARN = "arn:${AWS::Partition}:"
HERE = "${AWS::Region}:${AWS::AccountId}"


@pytest.mark.parametrize(
    "resource",
    [
        *("*", "**", "*:*", "arn:*", f"{ARN}sagemaker:*", f"{ARN}sagemaker:{HERE}*"),
        *("arn:aws:s3:::*", f"{ARN}s3:::*/*", f"{ARN}s3:::?*/*", "arn:aws:s3:*:*:*", "arn:aws:*:*:*:*"),
        *(f"{ARN}sagemaker:{HERE}:endpoint*", f"{ARN}sagemaker:{HERE}:endpoint/*", f"{ARN}sagemaker:{HERE}:*/*"),
        *(f"{ARN}lambda:{HERE}:function:*:*", f"{ARN}states:{HERE}:execution:*", f"{ARN}states:{HERE}:exec*:*"),
        *(f"{ARN}logs:{HERE}:log-group:*:log-stream:*", f"{ARN}sqs:{HERE}:*", f"{ARN}dynamodb:{HERE}:t*"),
        *(f"{ARN}nosuchservice:{HERE}:*", f"{ARN}iam::${{AWS::AccountId}}:role/?*"),
    ],
)
def test_what_leaves_every_name_open_is_a_star(resource: str) -> None:
    assert iam.is_star(resource)


@pytest.mark.parametrize(
    "resource",
    [
        *("KmsKeyArn", "RunBucket.Arn", "${RunBucket.Arn}/*", "${CleanUpFunction.Arn}:*", "/*", "", ":"),
        *(f"{ARN}s3:::${{Bucket}}", f"{ARN}s3:::${{Bucket}}/*", f"{ARN}s3:::*/run.json", f"{ARN}s3:::datasets-*/*"),
        *(f"{ARN}sagemaker:{HERE}:endpoint/${{RunPrefix}}*", f"{ARN}sagemaker:{HERE}:endpoint/bt-*"),
        *(f"{ARN}sqs:{HERE}:queue*", f"{ARN}sns:{HERE}:${{AWS::StackName}}*", f"{ARN}dynamodb:*:*:table/runs"),
        *(f"{ARN}states:{HERE}:execution:${{AWS::StackName}}-training-run:*", f"{ARN}ecr:*:*:repository/kmeans"),
        *(f"{ARN}logs:{HERE}:log-group:/aws/sagemaker/*", f"{ARN}iam::${{AWS::AccountId}}:root"),
    ],
)
def test_what_names_something_is_no_star(resource: str) -> None:
    assert not iam.is_star(resource)


def test_a_managed_policy_that_aws_does_not_have_is_told() -> None:
    text = statement("dynamodb:GetItem", TABLE) + textwrap.indent(
        textwrap.dedent(
            """
            Role:
              Type: AWS::IAM::Role
              Properties:
                ManagedPolicyArns: ["arn:aws:iam::aws:policy/NoSuchPolicyAtAll"]
            """
        ),
        "  ",
    )
    assert iam.problems(text) == ["Role: AWS has no managed policy NoSuchPolicyAtAll"]


def test_a_managed_policy_of_aws_without_a_written_reason_is_told() -> None:
    role = "Role:\n  Type: AWS::IAM::Role\n  Properties:\n    ManagedPolicyArns: [{}]\n"
    arn = '!Sub "arn:${AWS::Partition}:iam::aws:policy/AdministratorAccess"'
    text = statement("dynamodb:GetItem", TABLE) + "\n" + textwrap.indent(role.format(arn), "  ")
    [problem] = iam.problems(text)
    assert problem == "Role: AdministratorAccess has no written reason in tests/e2e/permissions_reasons.toml"
    assert iam.problems(text.replace("AdministratorAccess", "AWSXrayWriteOnlyAccess")) == []


def trusting(policy: str) -> str:
    """A template with one role whose trust policy is given as YAML, on one line."""
    role = f"Role: {{Type: AWS::IAM::Role, Properties: {{AssumeRolePolicyDocument: {policy}}}}}"
    return "Transform: AWS::Serverless-2016-10-31\nConditions: {A: !Equals [a, b]}\nResources:\n  " + role


WEB_IDENTITY = (
    """'{"Version": "2012-10-17", "Statement": [{"Sid": "One", "Effect": "Allow", "Action": "sts:ACTION", """
    """"Condition": {"OPERATOR": {"${OidcProvider}:CLAIM": "x"}}}]}'"""
)


def web_identity(
    action: str = "AssumeRoleWithWebIdentity", operator: str = "StringEquals", claim: str = "sub"
) -> list[str]:
    text = WEB_IDENTITY.replace("ACTION", action).replace("OPERATOR", operator).replace("CLAIM", claim)
    return iam.problems(trusting(f"!If [A, !Sub {text}, !Ref AWS::NoValue]"))


def test_a_policy_that_is_a_text_is_checked_too() -> None:
    assert web_identity() == []
    assert web_identity(action="AssumeRoleWithWebIdentityy") == [
        "Role trust, One: no action sts:AssumeRoleWithWebIdentityy"
    ]
    [problem] = web_identity(claim="subb")
    assert "sts:AssumeRoleWithWebIdentity knows no condition key" in problem
    [problem] = web_identity(operator="NumericEquals")
    assert "NumericEquals does not compare" in problem


def test_a_policy_that_is_there_on_a_condition_is_checked_too() -> None:
    document = (
        "{Version: 2012-10-17, Statement: [{Sid: One, Effect: Allow, Action: sqs:Sent, Resource: 'arn:aws:sqs:*'}]}"
    )
    own = f"{{PolicyName: own, PolicyDocument: {document}}}"
    role = f"Role: {{Type: AWS::IAM::Role, Properties: {{Policies: [!If [A, {own}, !Ref AWS::NoValue]]}}}}"
    found = iam.problems(f"Conditions: {{A: !Equals [a, b]}}\nResources:\n  {role}")
    assert "Role own, One: no action sqs:Sent" in found


@pytest.mark.parametrize("action", ["iam:passrole", "IAM:PassRole"])
def test_pass_role_is_bounded_in_whatever_case_it_is_written(action: str) -> None:
    assert any("needs iam:PassedToService" in problem for problem in iam.problems(statement(action, ROLE)))
    bounded = '{StringEquals: {"iam:PassedToService": sagemaker.amazonaws.com}}'
    assert iam.problems(statement(action, ROLE, bounded)) == []


@pytest.mark.parametrize("element", ["NotAction: dynamodb:GetItem", "Action: dynamodb:GetItem\n  NotPrincipal: '*'"])
def test_a_statement_that_names_what_it_leaves_out_is_told(element: str) -> None:
    found = iam.problems(policy(f"- Sid: One\n  Effect: Allow\n  {element}\n  Resource: {TABLE}\n"))
    name = "NotAction" if "NotAction" in element else "NotPrincipal"
    assert f"Policy, One: {name} is not checked here" in found


def test_a_statement_without_an_effect_is_told() -> None:
    text = policy(f"- Sid: One\n  Effekt: Allow\n  Action: dynamodb:GetItem\n  Resource: {TABLE}\n")
    assert "Policy, One: its Effect is neither Allow nor Deny" in iam.problems(text)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("a*", "ab", True),
        ("a*c", "ab*", True),
        ("a", "b", False),
        ("", "", True),
        ("", "*", True),
        ("endpoint/bt-*", "endpoint-config/*", False),
        ("*x", "y*", True),
    ],
)
def test_patterns_overlap(one: str, other: str, overlap: bool) -> None:
    assert iam.globs_overlap(one, other) is overlap
    assert iam.globs_overlap(other, one) is overlap


def test_package_sizes_have_limits() -> None:
    fine = {"AwaitOutcomeFunction": 900, "PrepareDataFunction": 60_000_000}
    assert list(sizes.problems(fine, {"BatonLayer": 12_000_000})) == []
    assert "AwaitOutcomeFunction has 1,000,001" in next(sizes.problems({"AwaitOutcomeFunction": 1_000_001}, {}))
    assert "AwaitOutcomeFunction has 0" in next(sizes.problems({"AwaitOutcomeFunction": 0}, {}))
    assert "BatonLayer has 30,000,001" in next(sizes.problems({}, {"BatonLayer": 30_000_001}))
    assert "Lambda takes" in next(sizes.problems({"PrepareDataFunction": 262_144_001}, {}))


def test_a_package_is_measured_without_compiled_python(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(b"12345")
    (tmp_path / "a.py").write_bytes(b"123")
    assert sizes.size_of(tmp_path) == 3
