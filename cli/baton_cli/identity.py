"""Whether there is the region, and whether the credentials are good in it; all other checks need both.

STS answers credentials of another partition as it answers those that nobody has, and no host has the name of a region
that there is not: so the region is judged before AWS is asked.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Iterator

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectionError,
    HTTPClientError,
    InvalidChecksumConfigError,
    InvalidConfigError,
    InvalidDefaultsMode,
    InvalidIMDSEndpointError,
    InvalidIMDSEndpointModeError,
    InvalidRetryConfigurationError,
    InvalidSTSRegionalEndpointsConfigError,
    LoginError,
    SSOError,
    TokenRetrievalError,
)
from botocore.session import Session

from baton_cli.account import COMMANDS, REGION_VARIABLES, BadSetting
from baton_cli.patient import OK, UNKNOWN, WRONG, Finding, Patient, sentence
from baton_local.regions import partitions, problem_with, regions

_NOBODYS = frozenset({"InvalidClientTokenId", "UnrecognizedClientException", "InvalidAccessKeyId"})
_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired"})
_IN_FILES = frozenset({"", "shared-credentials-file", "config-file"})

_BAD_SETTINGS = (
    InvalidChecksumConfigError,
    InvalidConfigError,
    InvalidDefaultsMode,
    InvalidIMDSEndpointError,
    InvalidIMDSEndpointModeError,
    InvalidRetryConfigurationError,
    InvalidSTSRegionalEndpointsConfigError,
)
"""What botocore says of settings, when it makes a client; of an endpoint, or of what is no number, a ValueError."""

_OTHER_VARIABLES = frozenset({*REGION_VARIABLES, "AWS_PROFILE", "AWS_DEFAULT_PROFILE"})
"""Variables that say where to look and as whom, and whose values may stand in an error about another."""

_OF_NOTHING = re.compile(r"''|\"\"|(:|got) [. ]")
"""How botocore's errors name a value that is empty."""

_ENDPOINT = "AWS_ENDPOINT_URL"
_SETTINGS = {variable for _, variable, *_ in Session.SESSION_VARIABLES.values() if isinstance(variable, str)}
"""The variables that botocore reads settings from; those of endpoints are not among them."""

_TAKEN = re.compile(r"with base \d+|(must be|Valid|Expected one of).*?(?= but got |$)", re.DOTALL)
"""The part of an error that says what botocore would take; what it was given may come after that."""


def check_identity(patient: Patient) -> Iterator[Finding]:
    """There is the region, and the credentials are good in it; the last finding is ok only if both are."""
    doubt = _doubt_region(patient)
    if doubt and doubt.state == WRONG:
        yield doubt
        return
    try:
        arn = patient.identity["Arn"]
    except (ConnectionError, HTTPClientError) as error:
        yield _no_answer(patient, doubt, error)
        return
    except BadSetting as error:
        yield _bad_setting(str(error.kwargs["said"]))
        return
    except (*_BAD_SETTINGS, ValueError) as error:
        yield _bad_setting(str(error))
        return
    except (ClientError, BotoCoreError) as error:
        yield _bad_credentials(patient, error)
        return
    if doubt:
        yield doubt
    _, partition, _, _, account, who = arn.split(":", 5)
    place = f"{patient.region}, partition {partition}"
    yield Finding("identity", OK, f"{who.rpartition('/')[2]} of {account} in {place}")


def _doubt_region(patient: Patient) -> Finding | None:
    """Say that botocore knows no such region: unknown where it may be newer than botocore, else wrong."""
    problem = problem_with(patient.region)
    if problem is None:
        return None
    if _may_be_new(patient.region):
        text = f"{patient.region} is mistyped, or newer than this botocore. {problem}"
        return Finding("region", UNKNOWN, text, _mend_region(patient))
    return Finding("region", WRONG, problem, _mend_region(patient))


def _may_be_new(region: str) -> bool:
    """Return whether a name is made as those of regions are: a known area, a known direction and one digit."""
    directions = {name.split("-")[-2] for name in regions()}
    words = region.split("-")
    made = len(words) > 2 and words[-2] in directions and len(words[-1]) == 1
    return made and any(re.match(partition["regionRegex"], region) for partition in partitions())


def _mend_region(patient: Patient) -> str:
    """Return the command that gives the closest region in the way in which the wrong one was given."""
    [region] = difflib.get_close_matches(patient.region, regions(), n=1) or ["REGION"]
    if patient.origin.region == "--region":
        chosen = f"{patient.as_chosen}{patient.as_asked}"
        return f"{COMMANDS}baton doctor --stack-name {shlex.quote(patient.stack_name)} --region {region}{chosen}"
    if patient.origin.region:
        return f"export {patient.origin.region}={region}"
    return f"aws configure set region {region}{patient.as_chosen}"


def _no_answer(patient: Patient, doubt: Finding | None, error: Exception) -> Finding:
    if doubt:
        return Finding("region", WRONG, f"Nobody answers there. {doubt.detail}", doubt.mend)
    return Finding("identity", UNKNOWN, f"AWS does not answer in {patient.region}: {error}")


def _bad_setting(said: str) -> Finding:
    """Say which setting botocore does not take: that of a variable whose value it names, or one of a file."""
    given = _TAKEN.sub("", said)
    settings = {name: value for name, value in sorted(os.environ.items()) if _is_setting(name)}
    variables = [name for name, value in settings.items() if value and _names(given, value)]
    if not variables and _OF_NOTHING.search(said):
        # An empty variable is a value for botocore, but where it is that of an endpoint.
        variables = [name for name, value in settings.items() if not value and not name.startswith(_ENDPOINT)]
    if variables:
        text, mend = f"botocore does not take {' and '.join(variables)}", f"unset {' '.join(variables)}"
    else:
        text = "botocore does not take a setting of your configuration file"
        mend = '${EDITOR:-vi} "${AWS_CONFIG_FILE:-$HOME/.aws/config}"'
    return Finding("identity", WRONG, f"{text}: {sentence(said)}", mend)


def _is_setting(variable: str) -> bool:
    return variable in _SETTINGS - _OTHER_VARIABLES or variable.startswith(_ENDPOINT)


def _names(text: str, word: str) -> bool:
    return bool(re.search(rf"(?<![\w.-]){re.escape(word)}(?![\w-]|\.\w)", text, re.IGNORECASE))


def _bad_credentials(patient: Patient, error: Exception) -> Finding:
    code = error.response["Error"]["Code"] if isinstance(error, ClientError) else ""
    said = sentence(str(error))
    if code == "SignatureDoesNotMatch" and ("expired" in said or "not yet current" in said):
        return Finding(
            "identity", WRONG, f"The clock of this machine is wrong: {said}", "sudo timedatectl set-ntp true"
        )
    why = "Your credentials do not work"
    if code in _NOBODYS:
        partition = regions().get(patient.region, "the region's")
        why = (
            f"AWS does not know your credentials in {patient.region}: they are wrong or deleted, "
            f"of another partition than {partition}, or the region is not enabled for their account"
        )
    elif code == "SignatureDoesNotMatch":
        why = "The secret of your credentials is not that of their key"
    elif code in _EXPIRED:
        why = "Your credentials have expired"
    return Finding("identity", WRONG, f"{why}. {said}", _mend_credentials(patient, error, code in _EXPIRED))


def _mend_credentials(patient: Patient, error: Exception, expired: bool) -> str:
    """Return the command that gives other credentials in the way in which the bad ones were given."""
    how, chosen = patient.origin.credentials, patient.as_chosen
    if how == "sso" or isinstance(error, SSOError | TokenRetrievalError):
        return f"aws sso login{chosen}"
    if how == "login" or isinstance(error, LoginError):
        return f"aws login{chosen}"
    if how in _IN_FILES:
        # `aws configure` does not ask for a session's token, and the old one would stay.
        token = f" && aws configure set aws_session_token TOKEN{chosen}" if expired else ""
        return f"aws configure{chosen}{token}"
    if how == "env":
        # Those of the environment come before those of a profile that AWS_PROFILE names.
        return "unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN && export AWS_PROFILE=PROFILE"
    return "export AWS_PROFILE=PROFILE"
