"""Service Quotas: how many instances of each type SageMaker lends, for ``baton doctor``.

The values are those that the embedded SageMaker enforces: ``limits`` of ``POST /_baton/sagemaker/faults``, and 20 where
none is set. A request for an increase is granted at once.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from functools import cache
from typing import Any

import botocore.session

from baton_local.context import CloudContext
from baton_local.sagemaker import engine
from baton_local.sagemaker.faults import Faults
from baton_local.seams import add, register, replace

DEFAULT_INSTANCES = 20
_PAGE_SIZE = 100
_RESPONSES = "moto.servicequotas.responses"
_TYPES = {
    "training": ("TrainingInstanceType", "training job usage"),
    "transform": ("TransformInstanceType", "transform job usage"),
    "endpoint": ("ProductionVariantInstanceType", "endpoint usage"),
}


def install(_context: CloudContext) -> None:
    """Add the operations that moto does not have."""
    replace(_RESPONSES, "ServiceQuotasResponse.get_service_quota", get_service_quota, ("self",))
    replace(
        _RESPONSES,
        "ServiceQuotasResponse.list_aws_default_service_quotas",
        list_aws_default_service_quotas,
        ("self",),
    )
    for operation in (list_service_quotas, request_service_quota_increase):
        add(_RESPONSES, f"ServiceQuotasResponse.{operation.__name__}", operation)


def list_service_quotas(self: Any) -> str:
    """Answer ListServiceQuotas with those that have a value of their own, which is all that AWS promises to list."""
    limits = _faults().as_dict()["limits"]
    return _page(self, [_quota(self, kind, name) for kind, name in _names() if kind in limits])


def list_aws_default_service_quotas(self: Any) -> str:
    """Answer ListAWSDefaultServiceQuotas with the value that each quota has where none was granted."""
    return _page(self, [{**_quota(self, kind, name), "Value": float(DEFAULT_INSTANCES)} for kind, name in _names()])


def _page(response: Any, all_quotas: list[dict[str, Any]]) -> str:
    """Return the page that is asked for; there are no quotas but SageMaker's."""
    asked = json.loads(response.body)
    quotas = all_quotas if asked["ServiceCode"] == "sagemaker" else []
    start, size = int(asked.get("NextToken", 0)), int(asked.get("MaxResults", _PAGE_SIZE))
    more = {"NextToken": str(start + size)} if start + size < len(quotas) else {}
    return json.dumps({"Quotas": quotas[start : start + size], **more})


def get_service_quota(self: Any) -> str:
    """Answer GetServiceQuota; raises moto's NoSuchResource for an unknown quota."""
    return json.dumps({"Quota": _asked_for(self)[0]})


def request_service_quota_increase(self: Any) -> str:
    """Answer RequestServiceQuotaIncrease by lifting SageMaker's limit for every instance type of the quota's use."""
    quota, kind = _asked_for(self)
    desired = float(json.loads(self.body)["DesiredValue"])
    faults = _faults()
    faults.update({"limits": {**faults.as_dict()["limits"], kind: int(desired)}})
    names = ("ServiceCode", "ServiceName", "QuotaArn", "QuotaCode", "QuotaName", "GlobalQuota", "Unit")
    request = {"Id": uuid.uuid4().hex, "DesiredValue": desired, "Status": "APPROVED", "Created": time.time()}
    return json.dumps({"RequestedQuota": {**{name: quota[name] for name in names}, **request}})


def _asked_for(response: Any) -> tuple[dict[str, Any], str]:
    code = json.loads(response.body)["QuotaCode"]
    for kind, name in _names():
        if _code(name) == code:
            return _quota(response, kind, name), kind
    raise register("moto.servicequotas.exceptions", "NoSuchResource")


@cache
def _names() -> tuple[tuple[str, str], ...]:
    """Return the kind and the name of each quota, for the instance types that the API's own model lists."""
    model = botocore.session.Session().get_service_model("sagemaker")
    kinds = ((kind, usage, model.shape_for(shape)) for kind, (shape, usage) in _TYPES.items())
    return tuple((kind, f"{instance} for {usage}") for kind, usage, shape in kinds for instance in shape.enum)  # type: ignore[attr-defined]


def _quota(response: Any, kind: str, name: str) -> dict[str, Any]:
    backend = response.backend
    code = _code(name)
    place = f"{backend.partition}:servicequotas:{backend.region_name}:{backend.account_id}"
    return {
        "ServiceCode": "sagemaker",
        "ServiceName": "Amazon SageMaker",
        "QuotaArn": f"arn:{place}:sagemaker/{code}",
        "QuotaCode": code,
        "QuotaName": name,
        "Value": float(_faults().as_dict()["limits"].get(kind, DEFAULT_INSTANCES)),
        "Unit": "None",
        "Adjustable": True,
        "GlobalQuota": False,
    }


def _code(name: str) -> str:
    return f"L-{hashlib.sha256(name.encode()).hexdigest()[:8].upper()}"


def _faults() -> Faults:
    return engine.current().faults
