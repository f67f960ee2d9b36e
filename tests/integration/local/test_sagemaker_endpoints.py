"""Models, endpoint configurations, endpoints and InvokeEndpoint of the embedded SageMaker, over HTTP, in China."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.error import HTTPError

import numpy as np
import pytest
from botocore.exceptions import ClientError

from baton_local import accounts
from baton_local.sagemaker import kmeans
from baton_local.sagemaker.recordio import payloads
from tests.integration.local.sagemaker_helpers import (
    Account,
    check_shape,
    csv,
    eventually,
    recordio,
    rows,
    running_account,
)

REGION = "cn-northwest-1"


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    with running_account(REGION) as found:
        yield found


@pytest.fixture(autouse=True)
def _no_faults_afterwards(account: Account) -> Iterator[None]:
    yield
    account.faults(method="DELETE")


@pytest.fixture(scope="module")
def artefact(account: Account) -> str:
    job = account.training_end(account.train())
    assert job["TrainingJobStatus"] == "Completed", job
    return str(job["ModelArtifacts"]["S3ModelArtifacts"])


@pytest.fixture(scope="module")
def centres(account: Account, artefact: str) -> np.ndarray:
    return kmeans.load_model(account.get(artefact))


@pytest.fixture(scope="module")
def config(account: Account, artefact: str) -> str:
    return account.config(account.model(artefact))


@pytest.fixture(scope="module")
def endpoint(account: Account, config: str) -> str:
    name = account.endpoint(config, Tags=[{"Key": "baton:run-id", "Value": "bt-1"}])
    assert account.endpoint_in(name, "InService", "Failed")["EndpointStatus"] == "InService"
    return name


def refusal(call, **arguments) -> tuple[str, str]:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    return error.value.response["Error"]["Code"], error.value.response["Error"]["Message"]


def missing(account: Account, call, words: str, kind: str, **arguments) -> None:
    arn = f"arn:aws-cn:sagemaker:{REGION}:{account.cloud.account_id}:{kind}/none"
    assert refusal(call, **arguments) == ("ValidationException", f'Could not find {words} "{arn}".')


class TestModels:
    def test_describe_list_delete(self, account, artefact):
        name = account.model(artefact, Tags=[{"Key": "a", "Value": "b"}])
        answer = account.sagemaker.describe_model(ModelName=name)
        check_shape("DescribeModel", answer)
        assert answer["ModelArn"].startswith(f"arn:aws-cn:sagemaker:{REGION}:")
        assert account.sagemaker.list_tags(ResourceArn=answer["ModelArn"])["Tags"] == [{"Key": "a", "Value": "b"}]
        listed = account.sagemaker.list_models(NameContains=name)
        check_shape("ListModels", listed)
        assert [model["ModelName"] for model in listed["Models"]] == [name]
        account.sagemaker.delete_model(ModelName=name)
        assert account.sagemaker.list_models(NameContains=name)["Models"] == []

    def test_names_are_taken_until_deleted(self, account, artefact):
        name = account.model(artefact)
        code, message = refusal(account.model, artefact=artefact, name=name)
        assert code == "ValidationException"
        assert message.startswith("Cannot create already existing model")
        account.sagemaker.delete_model(ModelName=name)
        account.model(artefact, name)

    def test_missing(self, account):
        for call in (account.sagemaker.describe_model, account.sagemaker.delete_model):
            missing(account, call, "model", "model", ModelName="none")

    def test_its_data_must_be_there(self, account):
        url = account.uri("models/none/model.tar.gz")
        code, message = refusal(account.model, artefact=url)
        assert (code, message) == ("ValidationException", f"Could not find model data at {url}.")

    def test_its_role_must_be_allowed_to_read_its_data(self, account, artefact):
        role = account.make_role("blind", account.writing())
        code, message = refusal(account.model, artefact=artefact, ExecutionRoleArn=role)
        assert code == "ValidationException"
        assert message.startswith(f"Could not access model data at {artefact}.")

    def test_its_role_must_trust_sagemaker(self, account, artefact):
        role = account.make_role("other", account.reading(), principal={"Service": "ec2.amazonaws.com"})
        assert "Could not assume role" in refusal(account.model, artefact=artefact, ExecutionRoleArn=role)[1]


class TestConfigurations:
    def test_describe_list_delete(self, account, artefact):
        name = account.config(account.model(artefact))
        answer = account.sagemaker.describe_endpoint_config(EndpointConfigName=name)
        check_shape("DescribeEndpointConfig", answer)
        assert answer["ProductionVariants"][0]["InitialVariantWeight"] == 1.0
        listed = account.sagemaker.list_endpoint_configs(NameContains=name)
        check_shape("ListEndpointConfigs", listed)
        assert len(listed["EndpointConfigs"]) == 1
        account.sagemaker.delete_endpoint_config(EndpointConfigName=name)
        assert account.sagemaker.list_endpoint_configs(NameContains=name)["EndpointConfigs"] == []

    def test_missing(self, account):
        for call in (account.sagemaker.describe_endpoint_config, account.sagemaker.delete_endpoint_config):
            missing(account, call, "endpoint configuration", "endpoint-config", EndpointConfigName="none")

    def test_its_model_must_be_there(self, account):
        missing(account, account.config, "model", "model", model="none")

    def test_names_are_taken(self, account, config, artefact):
        message = refusal(account.config, model=account.model(artefact), name=config)[1]
        assert message.startswith("Cannot create already existing endpoint configuration")


class TestLifeOfAnEndpoint:
    def test_creating_then_in_service(self, account, config):
        name = account.endpoint(config)
        first = account.sagemaker.describe_endpoint(EndpointName=name)
        check_shape("DescribeEndpoint", first)
        assert first["EndpointStatus"] == "Creating"
        answer = account.endpoint_in(name, "InService", "Failed")
        check_shape("DescribeEndpoint", answer)
        assert answer["EndpointStatus"] == "InService"
        assert answer["ProductionVariants"][0]["CurrentInstanceCount"] == 1
        assert answer["LastModifiedTime"] > answer["CreationTime"]

    def test_its_events_spell_the_status_in_capitals(self, account, config):
        name = account.endpoint(config, Tags=[{"Key": "baton:run-id", "Value": "bt-2"}])
        account.endpoint_in(name, "InService")
        account.sagemaker.delete_endpoint(EndpointName=name)
        events = account.events_of(name, "DELETING")
        assert [e["detail"]["EndpointStatus"] for e in events] == ["CREATING", "IN_SERVICE", "DELETING"]
        assert {e["detail-type"] for e in events} == {"SageMaker Endpoint State Change"}
        assert events[1]["detail"]["Tags"] == {"baton:run-id": "bt-2"}
        assert isinstance(events[1]["detail"]["CreationTime"], float)

    def test_cannot_be_deleted_or_updated_while_it_is_created(self, account, config):
        account.faults({"endpoint": {"creating_seconds": 1}})
        name = account.endpoint(config)
        arn = account.sagemaker.describe_endpoint(EndpointName=name)["EndpointArn"]
        expected = ("ValidationException", f'Cannot update in-progress endpoint "{arn}".')
        assert refusal(account.sagemaker.delete_endpoint, EndpointName=name) == expected
        update = account.sagemaker.update_endpoint
        assert refusal(update, EndpointName=name, EndpointConfigName=config) == expected
        account.endpoint_in(name, "InService")
        account.sagemaker.delete_endpoint(EndpointName=name)

    def test_is_deleting_for_a_moment_then_gone(self, account, config):
        account.faults({"endpoint": {"deleting_seconds": 0.5}})
        name = account.endpoint(config)
        account.endpoint_in(name, "InService")
        account.sagemaker.delete_endpoint(EndpointName=name)
        assert account.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Deleting"
        assert refusal(account.sagemaker.delete_endpoint, EndpointName=name)[0] == "ValidationException"

        def gone() -> bool:
            try:
                account.sagemaker.describe_endpoint(EndpointName=name)
            except ClientError as error:
                return str(error.response["Error"]["Message"]).startswith('Could not find endpoint "arn:aws-cn:')
            return False

        eventually(gone)

    def test_fails_when_its_model_is_no_model(self, account):
        url = account.put("bad/model.tar.gz", b"nothing")
        name = account.endpoint(account.config(account.model(url)))
        answer = account.endpoint_in(name, "InService", "Failed")
        assert answer["EndpointStatus"] == "Failed"
        assert "did not pass the ping health check" in answer["FailureReason"]
        check_shape("DescribeEndpoint", answer)
        account.sagemaker.delete_endpoint(EndpointName=name)

    def test_fails_when_its_data_went_away(self, account, artefact):
        url = account.put("short/model.tar.gz", account.get(artefact))
        config = account.config(account.model(url))
        account.s3.delete_object(Bucket=account.bucket, Key="short/model.tar.gz")
        answer = account.endpoint_in(account.endpoint(config), "InService", "Failed")
        assert answer["FailureReason"].startswith("Failed to download model data for container")

    def test_fails_when_its_image_is_of_another_region(self, account, artefact):
        image = "382416733822.dkr.ecr.us-east-1.amazonaws.com/kmeans:1"
        model = account.model(artefact, container={"Image": image})
        answer = account.endpoint_in(account.endpoint(account.config(model)), "InService", "Failed")
        assert "Failed to pull image" in answer["FailureReason"]

    def test_fails_on_demand(self, account, config):
        account.faults({"endpoint": {"times": 1, "fail": "Unable to provision requested ML compute capacity"}})
        name = account.endpoint(config)
        answer = account.endpoint_in(name, "InService", "Failed")
        assert answer["FailureReason"] == "Unable to provision requested ML compute capacity"
        assert [e["detail"]["EndpointStatus"] for e in account.events_of(name, "FAILED")] == ["CREATING", "FAILED"]

    def test_update_serves_the_new_model(self, account, config):
        away = np.full((2, 4), 50, np.float32)
        url = account.put("other/model.tar.gz", kmeans.save_model(away))
        name = account.endpoint(config)
        account.endpoint_in(name, "InService")
        other = account.config(account.model(url))
        account.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=other)
        assert account.sagemaker.describe_endpoint(EndpointName=name)["EndpointStatus"] == "Updating"
        assert account.endpoint_in(name, "InService")["EndpointConfigName"] == other
        answer = account.runtime.invoke_endpoint(EndpointName=name, ContentType="text/csv", Body=b"50,50,50,50")
        assert json.loads(answer["Body"].read())["predictions"][0]["distance_to_cluster"] == 0.0

    def test_an_update_that_fails_goes_back(self, account, config):
        name = account.endpoint(config)
        account.endpoint_in(name, "InService")
        broken = account.config(account.model(account.put("bad/again.tar.gz", b"nothing")))
        account.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=broken)
        answer = account.endpoint_in(name, "InService")
        assert answer["EndpointConfigName"] == config
        assert "health check" in answer["FailureReason"]
        account.runtime.invoke_endpoint(EndpointName=name, ContentType="text/csv", Body=b"1,2,3,4")

    def test_names_are_taken(self, account, config, endpoint):
        message = refusal(account.endpoint, config=config, name=endpoint)[1]
        assert message.startswith("Cannot create already existing endpoint")

    def test_missing(self, account):
        for call in (account.sagemaker.describe_endpoint, account.sagemaker.delete_endpoint):
            missing(account, call, "endpoint", "endpoint", EndpointName="none")
        missing(account, account.endpoint, "endpoint configuration", "endpoint-config", config="none")

    def test_limits(self, account, config):
        account.faults({"limits": {"endpoint": 0}})
        assert refusal(account.endpoint, config=config)[0] == "ResourceLimitExceeded"

    def test_lists(self, account, endpoint):
        answer = account.sagemaker.list_endpoints(NameContains=endpoint, StatusEquals="InService")
        check_shape("ListEndpoints", answer)
        assert endpoint in [entry["EndpointName"] for entry in answer["Endpoints"]]


class TestInvoking:
    def invoke(self, account, endpoint, body, kind="text/csv", **more) -> dict:
        answer = account.runtime.invoke_endpoint(EndpointName=endpoint, ContentType=kind, Body=body, **more)
        assert answer["InvokedProductionVariant"] == "AllTraffic"
        assert answer["ContentType"] == "application/json"
        return json.loads(answer["Body"].read())

    def test_predicts_the_nearest_centres(self, account, endpoint, centres):
        data = rows(40, seed=7)
        clusters, distances = kmeans.nearest(data, centres)
        predictions = self.invoke(account, endpoint, csv(data))["predictions"]
        assert [row["closest_cluster"] for row in predictions] == clusters.astype(float).tolist()
        assert [row["distance_to_cluster"] for row in predictions] == pytest.approx(distances.tolist(), abs=1e-4)

    def test_every_request_type_gives_the_same(self, account, endpoint):
        data = rows(5, seed=8)
        expected = self.invoke(account, endpoint, recordio(data), "application/x-recordio-protobuf")
        features = data.astype(float).tolist()
        instances = json.dumps({"instances": [{"features": row} for row in features]}).encode()
        lines = "\n".join(json.dumps({"features": row}) for row in features).encode()
        assert self.invoke(account, endpoint, instances, "application/json") == expected
        assert self.invoke(account, endpoint, lines, "application/jsonlines") == expected

    def test_answers_in_the_type_that_is_accepted(self, account, endpoint):
        call = account.runtime.invoke_endpoint
        answer = call(EndpointName=endpoint, ContentType="text/csv", Body=b"0,0,0,0", Accept="text/csv")
        assert answer["ContentType"] == "text/csv"
        kind = "application/x-recordio-protobuf"
        answer = call(EndpointName=endpoint, ContentType="text/csv", Body=b"0,0,0,0", Accept=kind)
        assert b"closest_cluster" in next(payloads(answer["Body"].read()))

    def test_an_endpoint_that_is_not_there(self, account):
        code, message = refusal(account.runtime.invoke_endpoint, EndpointName="none", Body=b"1")
        assert code == "ValidationError"
        assert message == f"Endpoint none of account {account.cloud.account_id} not found."

    def test_an_endpoint_that_is_still_created(self, account, config):
        account.faults({"endpoint": {"creating_seconds": 1}})
        name = account.endpoint(config)
        assert refusal(account.runtime.invoke_endpoint, EndpointName=name, Body=b"1")[0] == "ValidationError"

    @pytest.mark.parametrize(
        ("body", "kind", "status"),
        [
            (b"1,2,3", "text/csv", 400),
            (b"1,2,3,x", "text/csv", 400),
            (b"{}", "application/json", 400),
            (b"\xff\xfe", "application/x-recordio-protobuf", 400),
            (b"1,2,3,4", "application/xml", 415),
        ],
    )
    def test_what_the_container_refuses_is_a_model_error(self, account, endpoint, body, kind, status):
        with pytest.raises(ClientError) as error:
            account.runtime.invoke_endpoint(EndpointName=endpoint, ContentType=kind, Body=body)
        response = error.value.response
        assert response["Error"]["Code"] == "ModelError"
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
        assert response["OriginalStatusCode"] == status
        assert response["OriginalMessage"]
        assert response["LogStreamArn"].startswith("arn:aws-cn:logs:")
        assert f"Received client error ({status}) from primary" in response["Error"]["Message"]

    def test_a_role_without_the_permission_is_denied(self, account, endpoint):
        account_root = f"arn:aws-cn:iam::{account.cloud.account_id}:root"
        arn = account.make_role("caller", account.reading(), principal={"AWS": account_root})
        sts = account.cloud.client("sts", REGION)
        session = sts.assume_role(RoleArn=arn, RoleSessionName="test")["Credentials"]
        credentials = accounts.Credentials(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])
        client = accounts.client(account.cloud.url, "sagemaker-runtime", REGION, credentials)
        code, _ = refusal(client.invoke_endpoint, EndpointName=endpoint, ContentType="text/csv", Body=b"1,2,3,4")
        assert code == "AccessDeniedException"


def test_the_faults_route_refuses_nonsense(account):
    with pytest.raises(HTTPError, match="400"):
        account.faults({"nonsense": {}})
