"""The gate in front of every service: nobody gets past it with what his policies do not allow."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs

from baton_local.iam import pods_api
from baton_local.iam.answers import Answer, anonymous, bad_credentials, denied, untrusted
from baton_local.iam.calls import Call, UnknownCall, parse_call
from baton_local.iam.directory import ADMIN, BadCredentials, Directory, partition_of
from baton_local.iam.evaluator import Caller, Decision, PolicySet, Question, decide, sentence
from baton_local.iam.key_use import LOGGING, SENDING, given_key, key_actions, via_service
from baton_local.iam.log import DecisionLog
from baton_local.iam.passing import passed_roles
from baton_local.iam.pods import pod_credentials, token_claims, web_identity_trusted
from baton_local.iam.requirements import questions
from baton_local.iam.resources import Place

WsgiApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_OWN_PATHS = ("/_baton/", "/moto-api", "/favicon.ico", "/latest/")


class Gate:
    """Evaluates API calls of one account, for the middleware and for what calls services in process."""

    def __init__(self, directory: Directory, log: DecisionLog, enforce: bool = True) -> None:
        self.directory = directory
        self.log = log
        self.enforce = enforce

    def check(self, call: Call) -> Answer | None:
        """Return what a call that is not allowed is answered with, or None for one that may pass."""
        if (call.service, call.operation) == ("sts", "AssumeRoleWithWebIdentity"):
            return self._web_identity(call)
        if not call.key_id:
            return anonymous(call)
        partition = self._partition(call)
        try:
            caller = self.directory.caller(call.key_id, call.token, partition)
        except BadCredentials as error:
            return bad_credentials(call, error.expired)
        self._provide_managed_policies(call)
        if caller is ADMIN:
            return self._untrusted_role(call)
        place = Place(partition, call.region, self.directory.account_id)
        return self._first_denial(call, caller, place) or self._untrusted_role(call)

    def _partition(self, call: Call) -> str:
        return partition_of(call.region) if call.region else self.directory.partition_of_key(call.key_id)

    def _web_identity(self, call: Call) -> Answer | None:
        """Evaluate the trust policy for a web identity, which signs nothing: its token's subject is what counts."""
        claims = token_claims(str(call.params.get("WebIdentityToken", "")))
        role_arn = str(call.params.get("RoleArn", ""))
        trusted = web_identity_trusted(self.directory, role_arn, claims.get("sub", ""), claims.get("aud", ""))
        if trusted or not self.enforce:
            return None
        return denied(call, "Not authorized to perform sts:AssumeRoleWithWebIdentity")

    def _first_denial(self, call: Call, caller: Caller, place: Place) -> Answer | None:
        policies = self._policies_of(caller, call.key_id)
        asked = questions(call, place, lambda table: self.directory.hash_key(table, call.region))
        for question in [*asked, *self._key_questions(call, asked)]:
            full = replace(question, keys={**self._keys(caller, call, policies, question.resource), **question.keys})
            decision = self._decide(caller, full, policies)
            if not decision and self.enforce:
                return denied(call, sentence(caller.arn, full, decision))
        return None

    def _key_questions(self, call: Call, asked: list[Question]) -> list[Question]:
        """Return what a call needs of the KMS key of what it reads or writes, which its service uses for the caller."""
        actions = key_actions(call)
        if not actions or not asked:
            return []
        key = given_key(call) or self.directory.key_for_roles(asked[0].resource)
        if not key:
            return []
        keys: dict[str, str | list[str]] = {"kms:ViaService": via_service(call)}
        return [Question(action, self.directory.key_arn(key, call.region) or key, keys) for action in actions]

    def denied_listing(self, call: Call) -> Answer | None:
        """Return what S3 tells of a missing key to a caller who may not list its bucket; None where he may.

        The log has it only where he may: that he may not only makes a missing key look like a forbidden one.
        """
        caller = self.directory.caller(call.key_id, call.token, self._partition(call))
        if caller is ADMIN or not self.enforce:
            return None
        bucket = f"arn:{self._partition(call)}:s3:::{call.params['Bucket']}"
        policies = self._policies_of(caller, call.key_id)
        question = Question("s3:ListBucket", bucket, self._keys(caller, call, policies, bucket))
        resource = self.directory.resource_policies(question.action, bucket)
        decision = decide(caller, question, replace(policies, resource=resource))
        if not decision:
            return denied(call, sentence(caller.arn, question, decision))
        self.log.add(caller, question, decision)
        return None

    def _policies_of(self, caller: Caller, key_id: str = "") -> PolicySet:
        return PolicySet(
            identity=self.directory.identity_policies(caller),
            boundary=self.directory.boundary(caller),
            session=self.directory.session_policy(key_id),
        )

    def _decide(self, caller: Caller, question: Question, policies: PolicySet) -> Decision:
        resource = self.directory.resource_policies(question.action, question.resource)
        decision = decide(caller, question, replace(policies, resource=resource))
        self.log.add(caller, question, decision)
        return decision

    def _keys(self, caller: Caller, call: Call, policies: PolicySet, resource: str) -> dict[str, str | list[str]]:
        """Return the condition keys of the caller, the moment, the network and the resource's tags."""
        keys: dict[str, str | list[str]] = {
            "aws:PrincipalArn": caller.role_arn or caller.arn,
            "aws:PrincipalAccount": caller.account_id,
            "aws:PrincipalType": "AssumedRole" if caller.role_arn else "User",
            "aws:PrincipalIsAWSService": "false",
            "aws:ResourceAccount": self.directory.account_id,
            "aws:RequestedRegion": call.region,
            "aws:SourceIp": call.source_ip,
            "aws:UserAgent": call.headers.get("user-agent", ""),
            "aws:ViaAWSService": "false",
            **_moment(),
        }
        keys |= {f"aws:PrincipalTag/{k}": v for k, v in self.directory.principal_tags(caller).items()}
        if any("ResourceTag/" in policy.text for policy in policies.identity):
            keys |= self._resource_tag_keys(resource)
        return keys

    def _resource_tag_keys(self, resource: str) -> dict[str, str | list[str]]:
        service = resource.split(":", 3)[2] if resource.count(":") >= 3 else ""
        found: dict[str, str | list[str]] = {}
        for name, value in self.directory.resource_tags(resource).items():
            found[f"aws:ResourceTag/{name}"] = value
            found[f"{service}:ResourceTag/{name}"] = value
        return found

    def _provide_managed_policies(self, call: Call) -> None:
        if call.service == "iam":
            for value in call.params.values():
                if isinstance(value, str) and ":iam::aws:policy/" in value:
                    self.directory.provide_managed_policy(value)

    def _untrusted_role(self, call: Call) -> Answer | None:
        """Refuse to hand a role to a service that its trust policy does not let assume it, as the services do."""
        if not self.enforce:
            return None
        for passed in passed_roles(call):
            if not self.may_assume(passed.service, passed.role_arn):
                return untrusted(call, passed)
        return None

    def may_assume(self, service: str, role_arn: str) -> bool:
        """Return whether a role's trust policy lets a service principal assume it."""
        trust = self.directory.trust_policy(role_arn)
        if trust is None:
            return False
        caller = Caller(arn=service, account_id=self.directory.account_id, service=service)
        question = Question("sts:AssumeRole", role_arn, _moment() | {"aws:SourceAccount": self.directory.account_id})
        # A condition on the source's ARN is met by the service on the caller's behalf, with an ARN not known here; one
        # on a session's tags is looked at when there is a session (baton_local.iam.pods).
        loose = replace(
            trust, statements=tuple(replace(s, conditions=_certain(s.conditions)) for s in trust.statements)
        )
        return bool(decide(caller, question, PolicySet(resource=(loose,))))

    def role_may(self, role_arn: str, action: str, resource: str) -> Decision:
        """Decide whether a role may act on a resource, as a service asks that is to act for it later."""
        caller = Caller(arn=role_arn, account_id=self.directory.account_id, role_arn=role_arn)
        decision = self._decide(caller, Question(action, resource, _moment()), self._policies_of(caller))
        return decision if self.enforce else Decision(True, by="nothing is enforced")

    def service_may(self, service: str, action: str, resource: str, source_arn: str) -> Decision:
        """Decide whether a service principal may act on a resource for a source, by the resource's own policy.

        For a queue or a topic under a KMS key the key's policy must let the service use it too. Those of ``aws/sqs``
        and ``aws/sns`` let in the account's own principals only, and nobody can change them.
        https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-key-management.html,
        https://repost.aws/knowledge-center/cloudwatch-configure-alarm-sns
        """
        caller = Caller(arn=service, account_id=self.directory.account_id, service=service)
        decision = self._decide(
            caller, Question(action, resource, self._service_keys(service, source_arn)), PolicySet()
        )
        key = self.directory.encryption_key(resource) if decision else ""
        if key:
            denial = self._service_may_use_key(caller, key, resource, source_arn)
            decision = decision if denial is None else denial
        return decision if self.enforce else Decision(True, by="nothing is enforced")

    def _service_keys(self, service: str, source_arn: str) -> dict[str, str | list[str]]:
        account = self.directory.account_id
        return {
            "aws:SourceArn": source_arn,
            "aws:SourceAccount": account,
            "aws:SourceOwner": account,
            "aws:PrincipalServiceName": service,
            "aws:PrincipalIsAWSService": "true",
            **_moment(),
        }

    def _service_may_use_key(self, caller: Caller, key: str, resource: str, source_arn: str) -> Decision | None:
        """Return the first denial of what an encrypted target needs of its key, or None.

        EventBridge tells KMS no source: conditions on it are "not supported for EventBridge-to-encrypted topics", and
        for queues AWS promises none. https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
        """
        keys = self._service_keys(caller.service, source_arn)
        if caller.service == "events.amazonaws.com":
            keys = {name: value for name, value in keys.items() if not name.startswith("aws:Source")}
        return self._first_denial_of_key(caller, key, resource.split(":")[3], SENDING, keys)

    def logs_may_use_key(self, service: str, key: str, group_arn: str) -> Decision:
        """Decide whether a key's policy lets CloudWatch Logs do all that it asks for, for a log group."""
        caller = Caller(arn=service, account_id=self.directory.account_id, service=service)
        keys = {**self._service_keys(service, group_arn), "kms:EncryptionContext:aws:logs:arn": group_arn}
        denial = self._first_denial_of_key(caller, key, group_arn.split(":")[3], LOGGING, keys)
        return denial if denial is not None and self.enforce else Decision(True)

    def _first_denial_of_key(
        self, caller: Caller, key: str, region: str, actions: Iterable[str], keys: dict[str, str | list[str]]
    ) -> Decision | None:
        arn = self.directory.key_arn(key, region) or key
        decisions = (self._decide(caller, Question(action, arn, keys), PolicySet()) for action in actions)
        return next((decision for decision in decisions if not decision), None)


def _certain(conditions: tuple[tuple[str, str, tuple[str, ...]], ...]) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    return tuple(c for c in conditions if not c[1].lower().startswith(("aws:sourcearn", "aws:requesttag/")))


def _moment() -> dict[str, str | list[str]]:
    """Return the keys of now, and of the network: the embedded endpoint counts as TLS."""
    now = time.time()
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"aws:CurrentTime": stamp, "aws:EpochTime": str(int(now)), "aws:SecureTransport": "true"}


class Middleware:
    """The gate as WSGI middleware."""

    def __init__(self, gate: Gate, application: WsgiApplication) -> None:
        self._gate = gate
        self._application = application

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request, or hand it on."""
        path = str(environ.get("PATH_INFO", ""))
        if path.startswith("/_baton/iam") or path.startswith("/_baton/pod-credentials"):
            return _own_answer(self._gate, path, environ).send(start_response)
        if path.startswith(_OWN_PATHS):
            return self._application(environ, start_response)
        return self._guarded(environ, start_response)

    def _guarded(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        try:
            call = parse_call(environ)
        except UnknownCall:
            # Not an operation that botocore knows: the service behind says so in its own words.
            return self._application(environ, start_response)
        answer = self._gate.check(call)
        answer = answer or pods_api.answer(call, self._gate.directory.account_id)
        if answer is not None:
            return answer.send(start_response)
        if call.service == "s3" and call.operation in ("GetObject", "HeadObject"):
            return self._hide_missing_key(call, environ, start_response)
        return self._application(environ, start_response)

    def _hide_missing_key(
        self, call: Call, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer 403 for a missing key to a caller who may not list the bucket, as S3 does.

        https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html#API_GetObject_Permissions
        """
        started: list[Any] = []
        body = self._application(environ, lambda *arguments: started.extend(arguments))
        hidden = self._gate.denied_listing(call) if str(started[0]).startswith("404") else None
        if hidden:
            return hidden.send(start_response)
        start_response(*started)
        return body


def _own_answer(gate: Gate, path: str, environ: dict[str, Any]) -> Answer:
    query = {k: v[0] for k, v in parse_qs(str(environ.get("QUERY_STRING", ""))).items()}
    if path == "/_baton/iam-log":
        body: Any = gate.log.entries()
        if environ.get("REQUEST_METHOD") == "DELETE":
            gate.log.clear()
    elif path == "/_baton/iam-policies":
        body = gate.directory.all_role_policies()
    elif path == "/_baton/pod-credentials":
        body = pod_credentials(query.get("namespace", ""), query.get("service_account", ""), query.get("region", ""))
    else:
        return Answer(404, "Not Found", b"{}")
    return Answer(200, "OK", json.dumps(body).encode())
