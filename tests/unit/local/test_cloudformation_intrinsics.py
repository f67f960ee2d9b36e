"""Templates, parameters and intrinsic functions of the embedded CloudFormation."""

from __future__ import annotations

from typing import Any

import boto3
import pytest

from baton_local.cloudformation import parameters as template_parameters
from baton_local.cloudformation.intrinsics import Resolver, references
from baton_local.cloudformation.resources import REGISTRY
from baton_local.cloudformation.resources.base import Job
from baton_local.cloudformation.shapes import PropertyError, UnsupportedProperty, fit
from baton_local.cloudformation.templates import TemplateError, expand, load, needed_capabilities

PSEUDO = {"AWS::Region": "eu-west-1", "AWS::Partition": "aws", "AWS::StackName": "s"}


class World:
    """A lookup with two resources and one export."""

    def physical_id(self, logical_id: str) -> str:
        if logical_id not in ("Queue", "Table"):
            raise TemplateError(f"unresolved {logical_id}")
        return f"{logical_id}-1"

    def attribute(self, logical_id: str, name: str) -> Any:
        return f"{self.physical_id(logical_id)}/{name}"

    def imported(self, name: str) -> str:
        return {"shared": "value"}[name]

    def dynamic(self, service: str, reference: str) -> str:
        return f"<{service} {reference}>"


def resolver(text: str = "", **constants: Any) -> Resolver:
    template = load("Resources: {X: {Type: T}}\n" + text)
    return Resolver(template, {**PSEUDO, **constants}, World())


def resolved(text: str, extra: str = "", **constants: Any) -> Any:
    return resolver(extra, **constants).resolve(load(f"Resources: {{X: {text}}}")["Resources"]["X"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("!Ref Queue", "Queue-1"),
        ("!Ref AWS::Region", "eu-west-1"),
        ("!GetAtt Queue.Arn", "Queue-1/Arn"),
        ("!GetAtt Queue.Outputs.Name", "Queue-1/Outputs.Name"),
        ('{"Fn::GetAtt": ["Queue", "Arn"]}', "Queue-1/Arn"),
        ('!Sub "${Queue}:${Queue.Arn}:${!Literal}:${P}"', "Queue-1:Queue-1/Arn:${Literal}:p"),
        ('!Sub ["${A}-${P}", {A: !Ref Table}]', "Table-1-p"),
        ('!Join ["-", [a, !Ref P, 1]]', "a-p-1"),
        ("!Select [1, [a, b]]", "b"),
        ("!Select [0, !Ref L]", "x"),
        ('!Split [",", "a,b"]', ["a", "b"]),
        ("!If [Yes1, a, b]", "a"),
        ("!If [No1, a, b]", "b"),
        ("[a, !If [No1, b, !Ref AWS::NoValue]]", ["a"]),
        ("{A: !Ref AWS::NoValue, B: 1}", {"B": 1}),
        ("!FindInMap [M, !Ref AWS::Region, K]", "v"),
        ("{'Fn::FindInMap': [M, nowhere, K, {DefaultValue: d}]}", "d"),
        ("!ImportValue shared", "value"),
        ("!Base64 abc", "YWJj"),
        ('!GetAZs ""', ["eu-west-1a", "eu-west-1b", "eu-west-1c"]),
        ('!Cidr ["10.0.0.0/16", 2, 8]', ["10.0.0.0/24", "10.0.1.0/24"]),
        ("{'Fn::Length': !Ref L}", 2),
        ("{'Fn::ToJsonString': {a: !Ref P}}", '{"a": "p"}'),
        ('"{{resolve:ssm:/a/b:1}}-x"', "<ssm /a/b:1>-x"),
        ("2012-10-17", "2012-10-17"),
        ("{Version: 2012-10-17}", {"Version": "2012-10-17"}),
        ("yes", True),
    ],
)
def test_functions(text, value):
    extra = """
Mappings: {M: {eu-west-1: {K: v}}}
Conditions: {Yes1: !Equals [!Ref P, p], No1: !Not [!Condition Yes1]}
"""
    assert resolved(text, extra, P="p", L=["x", "y"]) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("!Select [2, [a]]", "nonexistent value at index 2"),
        ("!FindInMap [M, a, b]", "Unable to get mapping for M::a::b"),
        ("!Ref Nothing", "unresolved Nothing"),
        ("!Transform {Name: AWS::Include}", "not supported"),
        ("!If [Nowhere, a, b]", "Unresolved condition dependency Nowhere"),
    ],
)
def test_what_cannot_be_resolved(text, message):
    with pytest.raises(TemplateError, match=message):
        resolved(text)


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ("!And [!Equals [a, a], !Equals [!Ref P, p]]", True),
        ("!Or [!Equals [a, b], !Equals [!Ref P, p]]", True),
        ("!Not [!Equals [true, 'true']]", False),
    ],
)
def test_conditions(expression, holds):
    assert resolver(f"Conditions: {{C: {expression}}}", P="p").condition("C") is holds


def test_rules_say_what_is_not_met():
    rules = """
Rules:
  Needs:
    RuleCondition: !Equals [!Ref P, p]
    Assertions:
      - {Assert: {"Fn::Contains": [[a, b], !Ref Q]}, AssertDescription: Q must be a or b}
"""
    assert list(resolver(rules, P="p", Q="c").violated_rules()) == ["Template rule Needs is not met: Q must be a or b"]
    assert list(resolver(rules, P="p", Q="a").violated_rules()) == []
    assert list(resolver(rules, P="x", Q="c").violated_rules()) == []


def test_references_leave_out_the_branch_not_taken():
    made = resolver("Conditions: {C: !Equals [1, 2]}")
    value = load(
        """
Resources:
  X:
    a: !If [C, !Ref One, !GetAtt Two.Arn]
    b: !Sub ["${Three}-${Own}-${AWS::Region}", {Own: !Ref Four}]
"""
    )["Resources"]["X"]
    assert set(references(value, made)) == {"Two", "Three", "Four", "AWS::Region"}


# --- parameters
PARAMETERS = """
Parameters:
  Plain: {Type: String}
  Choice: {Type: String, Default: a, AllowedValues: [a, b]}
  Number: {Type: Number, Default: 5, MinValue: 1, MaxValue: 9}
  Pattern: {Type: String, Default: x1, AllowedPattern: "[a-z][0-9]", ConstraintDescription: a letter and a digit}
  Many: {Type: CommaDelimitedList, Default: "a, b"}
  Hidden: {Type: String, Default: s3cret, NoEcho: true}
Resources: {X: {Type: T}}
"""


def test_parameters_have_defaults_and_types():
    template = load(PARAMETERS)
    values = template_parameters.effective(template, {"Plain": "p"})
    assert values["Number"] == "5"
    assert template_parameters.referable(template, values, str)["Many"] == ["a", "b"]
    assert template_parameters.shown(template, values)["Hidden"] == "****"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, r"Parameters: \[Plain\] must have values"),
        ({"Plain": "p", "Other": "1"}, r"Parameters: \[Other\] do not exist in the template"),
        ({"Plain": "p", "Choice": "c"}, "must be one of AllowedValues"),
        ({"Plain": "p", "Number": "10"}, "not greater than 9"),
        ({"Plain": "p", "Number": "0"}, "not less than 1"),
        ({"Plain": "p", "Number": "many"}, "must be a number"),
        ({"Plain": "p", "Pattern": "zz"}, "failed to satisfy constraint: a letter and a digit"),
    ],
)
def test_wrong_parameters(given, message):
    with pytest.raises(TemplateError, match=message):
        template_parameters.effective(load(PARAMETERS), given)


# --- templates
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "unsupported structure"),
        ("Resources: {}", "At least one Resources member"),
        ("Resource: {X: {}}", r"\[Resource\]"),
        ("Resources: {X: [", "Template format error"),
    ],
)
def test_what_is_no_template(text, message):
    with pytest.raises(TemplateError, match=message):
        load(text)


def test_sam_is_expanded_with_the_partition_of_the_region():
    template = load(
        """
Transform: AWS::Serverless-2016-10-31
Resources:
  F:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: s3://b/k, Handler: a.b, Runtime: python3.13, Policies: [AWSXrayWriteOnlyAccess]}
"""
    )
    managed = {"AWSXrayWriteOnlyAccess": "arn:aws-cn:iam::aws:policy/AWSXrayWriteOnlyAccess"}
    resources = expand(template, {}, "cn-north-1", managed)["Resources"]
    assert {r["Type"] for r in resources.values()} == {"AWS::Lambda::Function", "AWS::IAM::Role"}
    arns = str(resources["FRole"]["Properties"]["ManagedPolicyArns"])
    assert "arn:aws-cn:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole" in arns
    assert "arn:aws:" not in arns
    assert needed_capabilities({"Resources": resources})[0] == {"CAPABILITY_IAM"}


def test_a_wrong_sam_template_says_why():
    template = load("Transform: AWS::Serverless-2016-10-31\nResources: {F: {Type: AWS::Serverless::Function}}")
    with pytest.raises(TemplateError, match=r"Invalid Serverless Application Specification document.*\[F\]"):
        expand(template, {}, "eu-west-1", {})


def test_an_unknown_transform_is_refused():
    with pytest.raises(TemplateError, match="No transform named Own found"):
        expand(load("Transform: Own\nResources: {X: {Type: T}}"), {}, "eu-west-1", {})


# --- properties
@pytest.fixture(scope="module")
def lambdas():
    return boto3.client("lambda", region_name="eu-west-1", aws_access_key_id="a", aws_secret_access_key="b")


def test_properties_take_the_types_of_the_api(lambdas):
    given = {"Timeout": "30", "TracingConfig": {"Mode": "Active"}, "Environment": {"Variables": {"A": 1, "B": True}}}
    assert fit(lambdas, "CreateFunction", given) == {
        "Timeout": 30,
        "TracingConfig": {"Mode": "Active"},
        "Environment": {"Variables": {"A": "1", "B": "true"}},
    }


def test_what_the_api_does_not_have_is_named(lambdas):
    with pytest.raises(UnsupportedProperty, match="TracingConfig/Moode"):
        fit(lambdas, "CreateFunction", {"TracingConfig": {"Moode": "Active"}})
    with pytest.raises(PropertyError, match="Timeout must be of type Integer"):
        fit(lambdas, "CreateFunction", {"Timeout": "soon"})


def job(**properties: Any) -> Job:
    return Job(
        "Logical", properties, "stack", "id", {}, "eu-west-1", "aws", "123456789012", lambda _: None, "ABCDEFGHIJKL"
    )


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_type_names_the_property_that_it_does_not_have(kind):
    with pytest.raises(UnsupportedProperty, match="Encountered unsupported property Nonsense"):
        REGISTRY[kind].check(job(Nonsense=1))


@pytest.mark.parametrize("kind", sorted(REGISTRY))
def test_every_type_is_consistent_and_known_to_cloudformation(kind):
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

    ours = REGISTRY[kind]
    schema = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema
    known = set(schema["properties"])
    assert ours.properties <= known, ours.properties - known
    assert ours.required <= ours.properties
    assert ours.replace_on <= ours.properties
    create_only = {p.split("/")[-1] for p in schema.get("createOnlyProperties", []) if p.count("/") == 2}
    assert create_only & ours.properties <= ours.replace_on, "an update of these needs a new resource"


def test_names_are_cut_in_the_middle_of_the_stack_name():
    made = Job("Logical", {}, "s" * 100, "id", {}, "eu-west-1", "aws", "1", lambda _: None, "ABCDEFGHIJKL")
    name = made.name("FunctionName", 64)
    assert len(name) == 64
    assert name.endswith("-Logical-ABCDEFGHIJKL")
    assert job(FunctionName="own").name("FunctionName") == "own"
