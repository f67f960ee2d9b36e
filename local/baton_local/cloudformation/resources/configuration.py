"""AppConfig: an application, its profiles, and the versions of what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from baton_local.cloudformation.resources.base import Ignoring, Job, Made, ResourceType
from baton_local.cloudformation.shapes import text

_GONE = ("ResourceNotFoundException",)
_APPLICATION_NAME, _PROFILE_NAME = 64, 128
"""The most characters: https://docs.aws.amazon.com/appconfig/2019-10-09/APIReference/API_CreateApplication.html,
https://docs.aws.amazon.com/appconfig/2019-10-09/APIReference/API_CreateConfigurationProfile.html"""


def _check_name(job: Job, limit: int) -> None:
    name = str(job.get("Name"))
    if len(name) > limit:
        raise ValueError(
            f"1 validation error detected: Value '{name}' at 'name' failed to satisfy constraint: "
            f"Member must have length less than or equal to {limit}"
        )


class Application(ResourceType):
    """AWS::AppConfig::Application."""

    type = "AWS::AppConfig::Application"
    properties = frozenset({"Description", "Name", "Tags"})
    required = frozenset({"Name"})

    def check(self, job: Job) -> None:
        """Refuse a name that is too long, too."""
        super().check(job)
        _check_name(job, _APPLICATION_NAME)

    def create(self, job: Job) -> Made:
        """Make the application."""
        client = job.client("appconfig")
        arguments = job.fit(client, "CreateApplication", "Name", "Description")
        made = client.create_application(**arguments, Tags=job.tags())["Id"]
        return Made(made, {"ApplicationId": made})

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Change name, description and tags."""
        client = job.client("appconfig")
        arguments = job.fit(client, "UpdateApplication", "Name", "Description")
        client.update_application(ApplicationId=made.physical_id, **arguments)
        if job.tags():
            arn = job.arn("appconfig", f"application/{made.physical_id}")
            client.tag_resource(ResourceArn=arn, Tags=job.tags())
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the application."""
        with Ignoring(*_GONE):
            job.client("appconfig").delete_application(ApplicationId=made.physical_id)


class ConfigurationProfile(ResourceType):
    """AWS::AppConfig::ConfigurationProfile, of hosted configurations."""

    type = "AWS::AppConfig::ConfigurationProfile"
    properties = frozenset({"ApplicationId", "Description", "LocationUri", "Name", "Tags", "Type"})
    required = frozenset({"ApplicationId", "LocationUri", "Name"})
    replace_on = frozenset({"ApplicationId", "LocationUri", "Type"})

    def check(self, job: Job) -> None:
        """Refuse a name that is too long, too."""
        super().check(job)
        _check_name(job, _PROFILE_NAME)

    def create(self, job: Job) -> Made:
        """Make the profile."""
        client = job.client("appconfig")
        arguments = job.fit(client, "CreateConfigurationProfile", *sorted(self.properties - {"Tags"}))
        made = client.create_configuration_profile(**arguments, Tags=job.tags())["Id"]
        return Made(made, {"ConfigurationProfileId": made})

    def update(self, job: Job, made: Made, old: Mapping[str, Any]) -> Made:  # noqa: ARG002
        """Change name, description and tags."""
        client, application = job.client("appconfig"), job.get("ApplicationId")
        arguments = job.fit(client, "UpdateConfigurationProfile", "ApplicationId", "Name", "Description")
        client.update_configuration_profile(ConfigurationProfileId=made.physical_id, **arguments)
        if job.tags():
            path = f"application/{application}/configurationprofile/{made.physical_id}"
            client.tag_resource(ResourceArn=job.arn("appconfig", path), Tags=job.tags())
        return made

    def delete(self, job: Job, made: Made) -> None:
        """Delete the profile; the application may be gone with it."""
        with Ignoring(*_GONE):
            job.client("appconfig").delete_configuration_profile(
                ApplicationId=job.get("ApplicationId"), ConfigurationProfileId=made.physical_id
            )


class HostedConfigurationVersion(ResourceType):
    """AWS::AppConfig::HostedConfigurationVersion; every change is a new version, with a new number.

    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-appconfig-hostedconfigurationversion.html
    """

    type = "AWS::AppConfig::HostedConfigurationVersion"
    properties = frozenset(
        {"ApplicationId", "ConfigurationProfileId", "Content", "ContentType", "Description", "VersionLabel"}
    )
    required = frozenset({"ApplicationId", "ConfigurationProfileId", "Content", "ContentType"})
    replace_on = properties

    def create(self, job: Job) -> Made:
        """Add the version."""
        client = job.client("appconfig")
        names = sorted(self.properties - {"Content"})
        arguments = job.fit(client, "CreateHostedConfigurationVersion", *names)
        content = text(job.get("Content")).encode()
        number = str(client.create_hosted_configuration_version(**arguments, Content=content)["VersionNumber"])
        return Made(number, {"VersionNumber": number})

    def delete(self, job: Job, made: Made) -> None:
        """Delete this version; the profile may be gone with it."""
        with Ignoring(*_GONE):
            job.client("appconfig").delete_hosted_configuration_version(
                **job.only("ApplicationId", "ConfigurationProfileId"), VersionNumber=int(made.physical_id)
            )


TYPES = (Application, ConfigurationProfile, HostedConfigurationVersion)
