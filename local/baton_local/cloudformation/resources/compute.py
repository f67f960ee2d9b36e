"""Lambda functions with what belongs to them, and state machines."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any

from baton_local.cloudformation.resources.base import (
    Ignoring,
    Job,
    Made,
    ResourceType,
    changed,
)
from baton_local.cloudformation.shapes import fit, text

_GONE = ("ResourceNotFoundException",)

_CONFIGURATION: dict[str, Any] = {
    "DeadLetterConfig": {"TargetArn": ""},
    "Description": "",
    "Environment": {"Variables": {}},
    "EphemeralStorage": {"Size": 512},
    "FileSystemConfigs": [],
    "Handler": None,
    "KmsKeyArn": "",
    "Layers": [],
    "LoggingConfig": {"LogFormat": "Text"},
    "MemorySize": 128,
    "Role": None,
    "Runtime": None,
    "SnapStart": {"ApplyOn": "None"},
    "Timeout": 3,
    "TracingConfig": {"Mode": "PassThrough"},
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
}
"""A function's settings, with what an update sets where the template no longer has one (None: it stays)."""


def _code(job: Job) -> dict[str, Any]:
    code = dict(job.get("Code") or {})
    if "ZipFile" not in code:
        return code
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("index.py", str(code["ZipFile"]))
    return {"ZipFile": archive.getvalue()}


class Function(ResourceType):
    """AWS::Lambda::Function."""

    type = "AWS::Lambda::Function"
    properties = frozenset(_CONFIGURATION) | {
        "Architectures",
        "Code",
        "FunctionName",
        "PackageType",
        "ReservedConcurrentExecutions",
        "Tags",
    }
    required = frozenset({"Code", "Role"})
    replace_on = frozenset({"FunctionName", "PackageType"})
    named_by = "FunctionName"

    def create(self, job: Job) -> Made:
        """Make the function from its package."""
        client, name = job.client("lambda"), job.name("FunctionName")
        settings = _as_lambda_has_it(job.only(*_CONFIGURATION, "Architectures", "PackageType"))
        arguments = fit(client, "CreateFunction", settings)
        made = client.create_function(FunctionName=name, Code=_code(job), Tags=job.tags(), **arguments)
        self._concurrency(job, name, {})
        return Made(name, {"Arn": made["FunctionArn"]})

    def _concurrency(self, job: Job, name: str, old: Mapping[str, Any]) -> None:
        client, wanted = job.client("lambda"), job.get("ReservedConcurrentExecutions")
        if wanted is not None:
            client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=int(wanted))
        elif "ReservedConcurrentExecutions" in old:
            client.delete_function_concurrency(FunctionName=name)

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Change code, configuration, concurrency and tags, as far as they differ."""
        client, name = job.client("lambda"), made.physical_id
        if changed(job, old, "Code", "Architectures"):
            architectures = job.get("Architectures", ["x86_64"])
            client.update_function_code(FunctionName=name, Architectures=architectures, **_renamed(_code(job)))
        names = [n for n in _CONFIGURATION if changed(job, old, n)]
        if names:
            wanted = {n: job.get(n, _CONFIGURATION[n]) for n in names}
            given = {n: v for n, v in wanted.items() if v is not None}
            arguments = fit(client, "UpdateFunctionConfiguration", _as_lambda_has_it(given))
            client.update_function_configuration(FunctionName=name, **arguments)
        self._concurrency(job, name, old)
        self._tags(job, made, old)
        return made

    def _tags(self, job: Job, made: Made, old: Mapping[str, Any]) -> None:
        client, arn = job.client("lambda"), made.attributes["Arn"]
        gone = {t["Key"] for t in old.get("Tags") or []} - set(job.tags())
        if job.tags():
            client.tag_resource(Resource=arn, Tags=job.tags())
        if gone:
            client.untag_resource(Resource=arn, TagKeys=sorted(gone))

    def delete(self, job: Job, made: Made) -> None:
        """Delete the function with its versions and aliases."""
        with Ignoring(*_GONE):
            job.client("lambda").delete_function(FunctionName=made.physical_id)


def _as_lambda_has_it(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under the API's names, which differ from CloudFormation's in one."""
    return {"KMSKeyArn" if name == "KmsKeyArn" else name: value for name, value in settings.items()}


def _renamed(code: Mapping[str, Any]) -> dict[str, Any]:
    return {n: v for n, v in code.items() if n in ("S3Bucket", "S3Key", "S3ObjectVersion", "ZipFile")}


class LayerVersion(ResourceType):
    """AWS::Lambda::LayerVersion; every change is a new version."""

    type = "AWS::Lambda::LayerVersion"
    properties = frozenset(
        {"CompatibleArchitectures", "CompatibleRuntimes", "Content", "Description", "LayerName", "LicenseInfo"}
    )
    required = frozenset({"Content"})
    replace_on = properties

    def create(self, job: Job) -> Made:
        """Publish the layer's next version."""
        client = job.client("lambda")
        names = ("CompatibleArchitectures", "CompatibleRuntimes", "Content", "Description", "LicenseInfo")
        arguments = job.fit(client, "PublishLayerVersion", *names)
        arn = client.publish_layer_version(LayerName=job.name("LayerName"), **arguments)["LayerVersionArn"]
        return Made(arn, {"LayerVersionArn": arn})

    def delete(self, job: Job, made: Made) -> None:
        """Delete this version."""
        name, _, version = made.physical_id.rpartition(":")
        with Ignoring(*_GONE):
            job.client("lambda").delete_layer_version(LayerName=name, VersionNumber=int(version))


def _split_function(name: str) -> dict[str, str]:
    """Return FunctionName and, if the name or ARN ends in one, Qualifier."""
    match = re.fullmatch(r"(arn:[^:]+:lambda:[^:]*:\d+:function:[^:]+|[^:]+):([^:]+)", name)
    return {"FunctionName": match[1], "Qualifier": match[2]} if match else {"FunctionName": name}


class Permission(ResourceType):
    """AWS::Lambda::Permission."""

    type = "AWS::Lambda::Permission"
    properties = frozenset(
        {"Action", "EventSourceToken", "FunctionName", "FunctionUrlAuthType", "Principal", "PrincipalOrgID"}
        | {"SourceAccount", "SourceArn"}
    )
    required = frozenset({"Action", "FunctionName", "Principal"})
    replace_on = properties

    def create(self, job: Job) -> Made:
        """Add the statement to the function's policy."""
        client, name = job.client("lambda"), job.name("", 100)
        arguments = fit(client, "AddPermission", job.without("FunctionName"), StatementId=name)
        client.add_permission(**arguments, **_split_function(str(job.get("FunctionName"))))
        return Made(name, {"Id": name})

    def delete(self, job: Job, made: Made) -> None:
        """Remove the statement; the function may be gone with it."""
        with Ignoring(*_GONE):
            job.client("lambda").remove_permission(
                StatementId=made.physical_id, **_split_function(str(job.get("FunctionName")))
            )


_MAPPING_FIXED = ("EventSourceArn", "StartingPosition")


class EventSourceMapping(ResourceType):
    """AWS::Lambda::EventSourceMapping."""

    type = "AWS::Lambda::EventSourceMapping"
    properties = frozenset(
        {"BatchSize", "BisectBatchOnFunctionError", "DestinationConfig", "Enabled", "EventSourceArn", "FilterCriteria"}
        | {"FunctionName", "FunctionResponseTypes", "KmsKeyArn", "MaximumBatchingWindowInSeconds"}
        | {"MaximumRecordAgeInSeconds", "MaximumRetryAttempts", "MetricsConfig", "ParallelizationFactor"}
        | {"ScalingConfig", "StartingPosition", "Tags"}
    )
    required = frozenset({"FunctionName"})
    replace_on = frozenset(_MAPPING_FIXED)

    def create(self, job: Job) -> Made:
        """Make the mapping."""
        client = job.client("lambda")
        arguments = fit(client, "CreateEventSourceMapping", job.without("Tags"))
        made = client.create_event_source_mapping(**arguments)
        return Made(made["UUID"], {"Id": made["UUID"], "EventSourceMappingArn": made.get("EventSourceMappingArn", "")})

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Change everything but the source."""
        client = job.client("lambda")
        arguments = fit(client, "UpdateEventSourceMapping", job.without("Tags", *_MAPPING_FIXED))
        client.update_event_source_mapping(UUID=made.physical_id, **arguments)
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the mapping."""
        with Ignoring(*_GONE):
            job.client("lambda").delete_event_source_mapping(UUID=made.physical_id)


class VersionExists(ValueError):
    """Lambda publishes nothing for a function that is what its last version is.

    https://docs.aws.amazon.com/lambda/latest/dg/configuration-versions.html
    """

    def __init__(self, version: str) -> None:
        super().__init__(
            f"A version for this Lambda function exists ( {version} ). Modify the function to create a new version."
        )


class Version(ResourceType):
    """AWS::Lambda::Version."""

    type = "AWS::Lambda::Version"
    properties = frozenset({"CodeSha256", "Description", "FunctionName", "RuntimePolicy"})
    required = frozenset({"FunctionName"})
    replace_on = properties

    def create(self, job: Job) -> Made:
        """Publish the function as it is; one that has not changed since its last version has that already."""
        client = job.client("lambda")
        arguments = job.fit(client, "PublishVersion", "FunctionName", "CodeSha256", "Description")
        pages = client.get_paginator("list_versions_by_function").paginate(FunctionName=job.get("FunctionName"))
        before = {version["Version"] for page in pages for version in page["Versions"]}
        made = client.publish_version(**arguments)
        if made["Version"] in before:
            raise VersionExists(str(made["Version"]))
        return Made(made["FunctionArn"], {"FunctionArn": made["FunctionArn"], "Version": made["Version"]})

    def delete(self, job: Job, made: Made) -> None:
        """Delete this version."""
        with Ignoring(*_GONE):
            job.client("lambda").delete_function(**_split_function(made.physical_id))


class FunctionAlias(ResourceType):
    """AWS::Lambda::Alias."""

    type = "AWS::Lambda::Alias"
    properties = frozenset({"Description", "FunctionName", "FunctionVersion", "Name", "RoutingConfig"})
    required = frozenset({"FunctionName", "FunctionVersion", "Name"})
    replace_on = frozenset({"FunctionName", "Name"})

    def create(self, job: Job) -> Made:
        """Make the alias."""
        client = job.client("lambda")
        arn = client.create_alias(**fit(client, "CreateAlias", self._routed(job)))["AliasArn"]
        return Made(arn, {"AliasArn": arn})

    @staticmethod
    def _routed(job: Job) -> dict[str, Any]:
        properties = dict(job.properties)
        weights = (properties.get("RoutingConfig") or {}).get("AdditionalVersionWeights")
        if weights is not None:
            routed = {w["FunctionVersion"]: w["FunctionWeight"] for w in weights}
            properties["RoutingConfig"] = {"AdditionalVersionWeights": routed}
        return properties

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Point the alias to another version."""
        client = job.client("lambda")
        client.update_alias(**fit(client, "UpdateAlias", self._routed(job)))
        return made

    def delete(self, job: Job, made: Made) -> None:  # noqa: ARG002
        """Delete the alias."""
        with Ignoring(*_GONE):
            job.client("lambda").delete_alias(FunctionName=job.get("FunctionName"), Name=job.get("Name"))


class EventInvokeConfig(ResourceType):
    """AWS::Lambda::EventInvokeConfig."""

    type = "AWS::Lambda::EventInvokeConfig"
    properties = frozenset(
        {"DestinationConfig", "FunctionName", "MaximumEventAgeInSeconds", "MaximumRetryAttempts", "Qualifier"}
    )
    required = frozenset({"FunctionName", "Qualifier"})
    replace_on = frozenset({"FunctionName", "Qualifier"})

    def create(self, job: Job) -> Made:
        """Set what happens to asynchronous invocations."""
        client = job.client("lambda")
        properties = job.without(*(["Qualifier"] if job.get("Qualifier") == "$LATEST" else []))
        client.put_function_event_invoke_config(**fit(client, "PutFunctionEventInvokeConfig", properties))
        return Made(job.name("", 100))

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Set it again."""
        self.create(job)
        return made

    def delete(self, job: Job, made: Made) -> None:  # noqa: ARG002
        """Go back to the defaults."""
        with Ignoring(*_GONE):
            job.client("lambda").delete_function_event_invoke_config(FunctionName=job.get("FunctionName"))


def _definition(job: Job) -> str:
    """Return the state machine's definition, from wherever the properties have it, with its substitutions made."""
    if "DefinitionString" in job.properties:
        definition = text(job.get("DefinitionString"))
    elif "Definition" in job.properties:
        definition = json.dumps(job.get("Definition"))
    else:
        place = job.get("DefinitionS3Location")
        version = {"VersionId": place["Version"]} if place.get("Version") else {}
        found = job.client("s3").get_object(Bucket=place["Bucket"], Key=place["Key"], **version)
        definition = found["Body"].read().decode()
    substitutions = {k: text(v) for k, v in (job.get("DefinitionSubstitutions") or {}).items()}
    return re.sub(r"\$\{([A-Za-z0-9_]+)\}", lambda m: substitutions.get(m[1], m[0]), definition)


_DEFINITION = ("Definition", "DefinitionS3Location", "DefinitionString", "DefinitionSubstitutions")


class StateMachine(ResourceType):
    """AWS::StepFunctions::StateMachine."""

    type = "AWS::StepFunctions::StateMachine"
    properties = frozenset(
        {*_DEFINITION, "LoggingConfiguration", "RoleArn", "StateMachineName", "StateMachineType", "Tags"}
        | {"TracingConfiguration", "EncryptionConfiguration"}
    )
    required = frozenset({"RoleArn"})
    replace_on = frozenset({"StateMachineName", "StateMachineType"})
    named_by = "StateMachineName"

    def create(self, job: Job) -> Made:
        """Make the state machine."""
        client, name = job.client("stepfunctions"), job.name("StateMachineName", 80)
        arguments = fit(client, "CreateStateMachine", self._settings(job), name=name, definition=_definition(job))
        tags = [{"key": k, "value": v} for k, v in job.tags().items()]
        kind = {"type": job.get("StateMachineType")} if job.get("StateMachineType") else {}
        arn = client.create_state_machine(**arguments, **kind, tags=tags)["stateMachineArn"]
        return Made(arn, {"Arn": arn, "Name": name, "StateMachineRevisionId": _revision(client, arn)})

    @staticmethod
    def _settings(job: Job) -> dict[str, Any]:
        return job.only("RoleArn", "LoggingConfiguration", "TracingConfiguration", "EncryptionConfiguration")

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Change definition, role, logging, tracing and tags."""
        client, arn = job.client("stepfunctions"), made.physical_id
        settings = {
            "LoggingConfiguration": {"Level": "OFF"},
            "TracingConfiguration": {"Enabled": False},
            **self._settings(job),
        }
        arguments = fit(client, "UpdateStateMachine", settings, definition=_definition(job))
        client.update_state_machine(stateMachineArn=arn, **arguments)
        if job.tags():
            client.tag_resource(resourceArn=arn, tags=[{"key": k, "value": v} for k, v in job.tags().items()])
        return Made(arn, {**made.attributes, "StateMachineRevisionId": _revision(client, arn)})

    def delete(self, job: Job, made: Made) -> None:
        """Delete the state machine."""
        with Ignoring("StateMachineDoesNotExist"):
            job.client("stepfunctions").delete_state_machine(stateMachineArn=made.physical_id)


def _revision(client: Any, arn: str) -> str:
    described: dict[str, Any] = client.describe_state_machine(stateMachineArn=arn)
    return str(described.get("revisionId") or "INITIAL")


class StateMachineVersion(ResourceType):
    """AWS::StepFunctions::StateMachineVersion."""

    type = "AWS::StepFunctions::StateMachineVersion"
    properties = frozenset({"Description", "StateMachineArn", "StateMachineRevisionId"})
    required = frozenset({"StateMachineArn"})
    replace_on = properties

    def create(self, job: Job) -> Made:
        """Publish the state machine as it is; the revision id only makes CloudFormation publish anew."""
        client = job.client("stepfunctions")
        arguments = job.fit(client, "PublishStateMachineVersion", "Description", "StateMachineArn")
        arn = client.publish_state_machine_version(**arguments)["stateMachineVersionArn"]
        return Made(arn, {"Arn": arn})

    def delete(self, job: Job, made: Made) -> None:
        """Delete this version."""
        with Ignoring("ResourceNotFound", "StateMachineDoesNotExist"):
            job.client("stepfunctions").delete_state_machine_version(stateMachineVersionArn=made.physical_id)


class StateMachineAlias(ResourceType):
    """AWS::StepFunctions::StateMachineAlias; deployment preferences are carried out all at once."""

    type = "AWS::StepFunctions::StateMachineAlias"
    properties = frozenset({"DeploymentPreference", "Description", "Name", "RoutingConfiguration"})
    replace_on = frozenset({"Name"})
    named_by = "Name"

    def create(self, job: Job) -> Made:
        """Make the alias."""
        client = job.client("stepfunctions")
        arguments = job.fit(client, "CreateStateMachineAlias", "Description")
        arn = client.create_state_machine_alias(
            name=job.name("Name", 80), routingConfiguration=self._routes(job), **arguments
        )["stateMachineAliasArn"]
        return Made(arn, {"Arn": arn})

    @staticmethod
    def _routes(job: Job) -> list[dict[str, Any]]:
        preference = job.get("DeploymentPreference")
        if preference:
            if str(preference.get("Type", "ALL_AT_ONCE")) != "ALL_AT_ONCE":
                raise NeedsGradualDeployment(str(preference["Type"]))
            return [{"stateMachineVersionArn": preference["StateMachineVersionArn"], "weight": 100}]
        routes = job.get("RoutingConfiguration") or []
        return [{"stateMachineVersionArn": r["StateMachineVersionArn"], "weight": int(r["Weight"])} for r in routes]

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Route the alias to other versions."""
        client = job.client("stepfunctions")
        arguments = job.fit(client, "UpdateStateMachineAlias", "Description")
        client.update_state_machine_alias(
            stateMachineAliasArn=made.physical_id, routingConfiguration=self._routes(job), **arguments
        )
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the alias."""
        with Ignoring("ResourceNotFound", "StateMachineDoesNotExist"):
            job.client("stepfunctions").delete_state_machine_alias(stateMachineAliasArn=made.physical_id)


class NeedsGradualDeployment(ValueError):
    """A deployment preference that shifts traffic over time."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"DeploymentPreference of type {kind} is not supported by the embedded cloud")


TYPES = (
    Function,
    LayerVersion,
    Permission,
    EventSourceMapping,
    Version,
    FunctionAlias,
    EventInvokeConfig,
    StateMachine,
    StateMachineVersion,
    StateMachineAlias,
)
