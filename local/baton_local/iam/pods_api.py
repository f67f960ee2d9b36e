"""EKS's Pod Identity operations, which moto does not have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from baton_local.iam.answers import Answer
from baton_local.iam.calls import Call
from baton_local.iam.directory import partition_of
from baton_local.iam.pods import ASSOCIATIONS, Association, AssociationExists


def _shown(association: Association) -> dict[str, Any]:
    return {
        "clusterName": association.cluster,
        "namespace": association.namespace,
        "serviceAccount": association.service_account,
        "roleArn": association.role_arn,
        "associationArn": association.arn,
        "associationId": association.id,
        "tags": dict(association.tags),
    }


def _ok(body: Mapping[str, Any]) -> Answer:
    return Answer(200, "OK", json.dumps(body).encode())


def _error(status: int, code: str, message: str) -> Answer:
    headers = (("Content-Type", "application/json"), ("x-amzn-ErrorType", code))
    return Answer(status, code, json.dumps({"message": message}).encode(), headers)


def _create(call: Call, account_id: str) -> Answer:
    params = call.params
    place = f"arn:{partition_of(call.region)}:eks:{call.region}:{account_id}"
    try:
        made = ASSOCIATIONS.create(
            place, call.region, params["clusterName"], params["namespace"], params["serviceAccount"], params["roleArn"]
        )
    except AssociationExists as error:
        return _error(409, "ResourceInUseException", str(error))
    tags = tuple((params.get("tags") or {}).items())
    return _ok({"association": _shown(ASSOCIATIONS.update(made.id, tags=tags))})


def _list(call: Call) -> Answer:
    wanted = (call.params.get("namespace"), call.params.get("serviceAccount"))
    found = [
        a
        for a in ASSOCIATIONS.all()
        if (a.region, a.cluster) == (call.region, call.params["clusterName"])
        and wanted[0] in (None, a.namespace)
        and wanted[1] in (None, a.service_account)
    ]
    names = ("clusterName", "namespace", "serviceAccount", "associationArn", "associationId")
    return _ok({"associations": [{n: _shown(a)[n] for n in names} for a in found]})


def answer(call: Call, account_id: str) -> Answer | None:
    """Answer a Pod Identity operation; None for any other call."""
    if call.service != "eks" or "PodIdentityAssociation" not in call.operation:
        return None
    if call.operation == "CreatePodIdentityAssociation":
        return _create(call, account_id)
    if call.operation == "ListPodIdentityAssociations":
        return _list(call)
    identity = str(call.params.get("associationId", ""))
    association = ASSOCIATIONS.get(identity)
    if association is None or association.cluster != call.params.get("clusterName"):
        return _error(404, "ResourceNotFoundException", f"The association {identity} does not exist")
    if call.operation == "DeletePodIdentityAssociation":
        association = ASSOCIATIONS.delete(identity)
    elif call.operation == "UpdatePodIdentityAssociation" and call.params.get("roleArn"):
        association = ASSOCIATIONS.update(identity, role_arn=str(call.params["roleArn"]))
    return _ok({"association": _shown(association)})
