"""Logs, alarms, dashboards, resource groups, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baton_local.cloudformation.resources.base import Ignoring, Job, Made, ResourceType, changed
from baton_local.cloudformation.shapes import fit, tag_list, text

_GONE = ("ResourceNotFoundException", "ResourceNotFound")


class LogGroup(ResourceType):
    """AWS::Logs::LogGroup."""

    type = "AWS::Logs::LogGroup"
    properties = frozenset({"KmsKeyId", "LogGroupClass", "LogGroupName", "RetentionInDays", "Tags"})
    replace_on = frozenset({"LogGroupClass", "LogGroupName"})
    named_by = "LogGroupName"

    def create(self, job: Job) -> Made:
        """Make the group with its retention."""
        logs, name = job.client("logs"), job.name("LogGroupName", 512)
        arguments = job.fit(logs, "CreateLogGroup", "KmsKeyId", "LogGroupClass")
        tags = {"tags": job.tags()} if job.tags() else {}
        logs.create_log_group(logGroupName=name, **arguments, **tags)
        self._retention(job, name)
        return Made(name, {"Arn": job.arn("logs", f"log-group:{name}:*")})

    @staticmethod
    def _retention(job: Job, name: str) -> None:
        logs = job.client("logs")
        if job.get("RetentionInDays"):
            logs.put_retention_policy(logGroupName=name, retentionInDays=int(job.get("RetentionInDays")))
        else:
            logs.delete_retention_policy(logGroupName=name)

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:
        """Change retention, key and tags."""
        logs, name = job.client("logs"), made.physical_id
        self._retention(job, name)
        if changed(job, old, "KmsKeyId"):
            if job.get("KmsKeyId"):
                logs.associate_kms_key(logGroupName=name, kmsKeyId=job.get("KmsKeyId"))
            else:
                logs.disassociate_kms_key(logGroupName=name)
        if job.tags():
            logs.tag_log_group(logGroupName=name, tags=job.tags())
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the group with what it logged."""
        with Ignoring(*_GONE):
            job.client("logs").delete_log_group(logGroupName=made.physical_id)


class MetricFilter(ResourceType):
    """AWS::Logs::MetricFilter."""

    type = "AWS::Logs::MetricFilter"
    properties = frozenset({"FilterName", "FilterPattern", "LogGroupName", "MetricTransformations"})
    required = frozenset({"FilterPattern", "LogGroupName", "MetricTransformations"})
    replace_on = frozenset({"FilterName", "LogGroupName"})
    named_by = "FilterName"

    def create(self, job: Job) -> Made:
        """Put the filter."""
        self._put(job, job.name("FilterName", 512))
        return Made(job.name("FilterName", 512))

    @staticmethod
    def _put(job: Job, name: str) -> None:
        logs = job.client("logs")
        logs.put_metric_filter(**fit(logs, "PutMetricFilter", job.without("FilterName"), filterName=name))

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Put it again."""
        self._put(job, made.physical_id)
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the filter."""
        with Ignoring(*_GONE):
            job.client("logs").delete_metric_filter(logGroupName=job.get("LogGroupName"), filterName=made.physical_id)


class LogResourcePolicy(ResourceType):
    """AWS::Logs::ResourcePolicy."""

    type = "AWS::Logs::ResourcePolicy"
    properties = frozenset({"PolicyDocument", "PolicyName"})
    required = properties
    replace_on = frozenset({"PolicyName"})
    named_by = "PolicyName"

    def create(self, job: Job) -> Made:
        """Put the policy."""
        name = str(job.get("PolicyName"))
        job.client("logs").put_resource_policy(policyName=name, policyDocument=text(job.get("PolicyDocument")))
        return Made(name)

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Put it again."""
        return self.create(job)

    def delete(self, job: Job, made: Made) -> None:
        """Delete the policy."""
        with Ignoring(*_GONE):
            job.client("logs").delete_resource_policy(policyName=made.physical_id)


_ALARM = {"ActionsEnabled", "AlarmActions", "AlarmDescription", "AlarmName", "ComparisonOperator", "DatapointsToAlarm"}
_ALARM |= {"Dimensions", "EvaluateLowSampleCountPercentile", "EvaluationPeriods", "ExtendedStatistic"}
_ALARM |= {"InsufficientDataActions", "MetricName", "Metrics", "Namespace", "OKActions", "Period", "Statistic", "Tags"}
_ALARM |= {"Threshold", "ThresholdMetricId", "TreatMissingData", "Unit"}


class Alarm(ResourceType):
    """AWS::CloudWatch::Alarm."""

    type = "AWS::CloudWatch::Alarm"
    properties = frozenset(_ALARM)
    required = frozenset({"ComparisonOperator", "EvaluationPeriods"})
    replace_on = frozenset({"AlarmName"})
    named_by = "AlarmName"

    def create(self, job: Job) -> Made:
        """Put the alarm."""
        name = job.name("AlarmName", 255)
        self._put(job, name)
        return Made(name, {"Arn": job.arn("cloudwatch", f"alarm:{name}")})

    @staticmethod
    def _put(job: Job, name: str) -> None:
        client = job.client("cloudwatch")
        arguments = fit(client, "PutMetricAlarm", job.without("AlarmName", "Tags"), AlarmName=name)
        client.put_metric_alarm(**arguments, Tags=tag_list(job.tags()))

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Put it again."""
        self._put(job, made.physical_id)
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the alarm."""
        with Ignoring(*_GONE):
            job.client("cloudwatch").delete_alarms(AlarmNames=[made.physical_id])


class CompositeAlarm(ResourceType):
    """AWS::CloudWatch::CompositeAlarm."""

    type = "AWS::CloudWatch::CompositeAlarm"
    properties = frozenset(
        {"ActionsEnabled", "AlarmActions", "AlarmDescription", "AlarmName", "AlarmRule", "InsufficientDataActions"}
        | {"OKActions", "Tags"}
    )
    required = frozenset({"AlarmRule"})
    replace_on = frozenset({"AlarmName"})
    named_by = "AlarmName"

    def create(self, job: Job) -> Made:
        """Put the alarm."""
        name = job.name("AlarmName", 255)
        self._put(job, name)
        return Made(name, {"Arn": job.arn("cloudwatch", f"alarm:{name}")})

    @staticmethod
    def _put(job: Job, name: str) -> None:
        client = job.client("cloudwatch")
        arguments = fit(client, "PutCompositeAlarm", job.without("AlarmName", "Tags"), AlarmName=name)
        client.put_composite_alarm(**arguments, Tags=tag_list(job.tags()))

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Put it again."""
        self._put(job, made.physical_id)
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the alarm."""
        with Ignoring(*_GONE):
            job.client("cloudwatch").delete_alarms(AlarmNames=[made.physical_id])


class Dashboard(ResourceType):
    """AWS::CloudWatch::Dashboard."""

    type = "AWS::CloudWatch::Dashboard"
    properties = frozenset({"DashboardBody", "DashboardName"})
    required = frozenset({"DashboardBody"})
    replace_on = frozenset({"DashboardName"})
    named_by = "DashboardName"

    def create(self, job: Job) -> Made:
        """Put the dashboard."""
        name = job.name("DashboardName", 255)
        job.client("cloudwatch").put_dashboard(DashboardName=name, DashboardBody=text(job.get("DashboardBody")))
        return Made(name)

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Put it again."""
        body = text(job.get("DashboardBody"))
        job.client("cloudwatch").put_dashboard(DashboardName=made.physical_id, DashboardBody=body)
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the dashboard."""
        with Ignoring("DashboardNotFoundError", *_GONE):
            job.client("cloudwatch").delete_dashboards(DashboardNames=[made.physical_id])


class ResourceGroup(ResourceType):
    """AWS::ResourceGroups::Group."""

    type = "AWS::ResourceGroups::Group"
    properties = frozenset({"Description", "Name", "ResourceQuery", "Tags"})
    required = frozenset({"Name"})
    replace_on = frozenset({"Name"})
    named_by = "Name"

    @staticmethod
    def _query(job: Job) -> dict[str, str]:
        given = job.get("ResourceQuery") or {"Type": "CLOUDFORMATION_STACK_1_0"}
        default = {"ResourceTypeFilters": ["AWS::AllSupported"], "StackIdentifier": job.stack_id}
        return {"Type": given["Type"], "Query": text(given.get("Query") or default)}

    def create(self, job: Job) -> Made:
        """Make the group; without a query it is the stack's resources."""
        client = job.client("resource-groups")
        arguments = job.fit(client, "CreateGroup", "Name", "Description")
        group = client.create_group(**arguments, ResourceQuery=self._query(job), Tags=job.tags())["Group"]
        return Made(str(job.get("Name")), {"Arn": group["GroupArn"]})

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Change description and query."""
        client = job.client("resource-groups")
        client.update_group(GroupName=made.physical_id, Description=text(job.get("Description", "")))
        client.update_group_query(GroupName=made.physical_id, ResourceQuery=self._query(job))
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the group, not what is in it."""
        with Ignoring("NotFoundException"):
            job.client("resource-groups").delete_group(GroupName=made.physical_id)


class Parameter(ResourceType):
    """AWS::SSM::Parameter."""

    type = "AWS::SSM::Parameter"
    properties = frozenset({"AllowedPattern", "DataType", "Description", "Name", "Tags", "Tier", "Type", "Value"})
    required = frozenset({"Type", "Value"})
    replace_on = frozenset({"DataType", "Name"})
    named_by = "Name"

    def create(self, job: Job) -> Made:
        """Put the parameter."""
        name = job.name("Name", 255)
        self._put(job, name, overwrite=False)
        return Made(name, {"Type": job.get("Type"), "Value": job.get("Value")})

    @staticmethod
    def _put(job: Job, name: str, overwrite: bool) -> None:
        ssm = job.client("ssm")
        ssm.put_parameter(**fit(ssm, "PutParameter", job.without("Name", "Tags"), Name=name, Overwrite=overwrite))

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Put it again."""
        self._put(job, made.physical_id, overwrite=True)
        return Made(made.physical_id, {"Type": job.get("Type"), "Value": job.get("Value")})

    def delete(self, job: Job, made: Made) -> None:
        """Delete the parameter."""
        with Ignoring("ParameterNotFound"):
            job.client("ssm").delete_parameter(Name=made.physical_id)


TYPES = (LogGroup, MetricFilter, LogResourcePolicy, Alarm, CompositeAlarm, Dashboard, ResourceGroup, Parameter)
