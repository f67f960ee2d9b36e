"""What the embedded cloud's own deployment does as the SAM CLI does it."""

from __future__ import annotations

import json
from pathlib import Path
from unittest.mock import Mock

import pytest
from samcli.lib.package.packageable_resources import (
    ServerlessFunctionResource,
    ServerlessLayerVersionResource,
    ServerlessStateMachineResource,
)

from baton_local.deploy import Build, package

ARTEFACTS = {
    ServerlessFunctionResource: "code",
    ServerlessLayerVersionResource: "code",
    ServerlessStateMachineResource: "machine.json",
}


@pytest.mark.parametrize(("kind", "artefact"), ARTEFACTS.items())
def test_sam_delete_finds_what_was_packaged(tmp_path: Path, kind: type, artefact: str) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").touch()
    (tmp_path / "machine.json").touch()
    template = tmp_path / "template.yaml"
    resource = {"Type": kind.RESOURCE_TYPE, "Properties": {kind.PROPERTY_NAME: artefact}}
    template.write_text(json.dumps({"Resources": {"It": resource}}))
    packaged = json.loads(package(Build(template, "python3.13"), lambda path: f"s3://bucket/prefix/{path.name}"))
    uploaders = Mock()
    uploaders.get.return_value.parse_s3_url = lambda _: {"Bucket": "bucket", "Key": "prefix/code.zip"}
    sams = kind(uploaders=uploaders, code_signer=Mock())
    found = sams.get_property_value(packaged["Resources"]["It"]["Properties"])
    assert (found["Bucket"], found["Key"].split("/")[0]) == ("bucket", "prefix")
