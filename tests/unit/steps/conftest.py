import pytest
from moto import mock_aws

from tests.unit.steps import world


@pytest.fixture
def aws(monkeypatch):
    world.set_environment(monkeypatch)
    with mock_aws():
        world.make_table()
        yield


@pytest.fixture
def sagemaker():
    return world.FakeSageMaker()


@pytest.fixture
def logs():
    return world.FakeLogs(["line 1", "line 2"])


@pytest.fixture
def run(aws, sagemaker, logs):
    world.put_row()
    return world.make_run({"sagemaker": sagemaker, "logs": logs})
