"""The embedded Kubeflow Pipelines as its own SDK and its generated client see it."""

import json
import time
import warnings
from pathlib import Path

import kfp
import kfp_server_api
import pytest
import yaml
from kfp import compiler

from baton_local.kfp.runs import TERMINAL
from baton_local.kfp.server import KfpServer, PodEnvironment
from tests.contract import kfp_pipelines

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

END_SECONDS = 60


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    pods = PodEnvironment("http://localhost:1", credentials)
    with KfpServer(tmp_path_factory.mktemp("kfp"), pods) as server:
        yield server


def credentials(namespace, service_account, region):
    if service_account != "pods":
        return None
    return {"AWS_ACCESS_KEY_ID": f"{namespace}/{service_account}/{region}", "AWS_SECRET_ACCESS_KEY": "s"}


@pytest.fixture(scope="module")
def client(server):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kfp.Client(host=server.url)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packages")
    names = ("passes_on", "fails", "waits", "shows_environment", "overlaps")
    for name in names:
        compiler.Compiler().compile(getattr(kfp_pipelines, name), str(folder / f"{name}.yaml"))
    return {name: str(folder / f"{name}.yaml") for name in names}


@pytest.fixture(autouse=True)
def healthy(server):
    yield
    server.set_faults(**type(server.faults)().as_dict())


def wait_for(client, run_id, states=TERMINAL):
    until = time.monotonic() + END_SECONDS
    while time.monotonic() < until:
        run = client.get_run(run_id)
        if run.state in states:
            return run
        time.sleep(0.05)
    raise AssertionError(f"run {run_id} is still {run.state}")


def start(client, package, arguments, **more):
    result = client.create_run_from_pipeline_package(package, arguments=arguments, enable_caching=False, **more)
    return result.run_id


def states(run):
    return [status.state for status in run.state_history]


def tasks(run):
    return {task.display_name: task.state for task in run.run_details.task_details}


class TestRuns:
    def test_a_run_passes_values_on_and_ends_with_its_exit_task(self, client, packages, tmp_path):
        run_id = start(client, packages["passes_on"], {"folder": str(tmp_path)}, run_name="one")
        run = client.wait_for_run_completion(run_id, timeout=END_SECONDS, sleep_duration=1)
        assert run.state == "SUCCEEDED"
        assert (tmp_path / "first").read_text() == run_id
        assert (tmp_path / "second").read_text() == f"first:{run_id}"
        assert json.loads((tmp_path / "end.json").read_text()) == {"run_id": run_id, "state": "SUCCEEDED"}
        assert states(run) == ["PENDING", "RUNNING", "SUCCEEDED"]
        assert tasks(run) == {"note": "SUCCEEDED", "note-2": "SUCCEEDED", "at-end": "SUCCEEDED"}
        assert run.display_name == "one"
        assert run.finished_at > run.created_at

    def test_a_failed_task_fails_the_run_after_its_exit_task(self, client, packages, tmp_path):
        run = wait_for(client, start(client, packages["fails"], {"folder": str(tmp_path)}))
        assert run.state == "FAILED"
        assert run.error is None
        assert (tmp_path / "attempts").read_text() == "xx"
        assert not (tmp_path / "after").exists()
        assert (tmp_path / "beside").read_text() == "independent"
        assert json.loads((tmp_path / "end.json").read_text()) == {"run_id": run.run_id, "state": "FAILED"}
        assert tasks(run)["fail"] == "FAILED"

    def test_a_run_is_still_running_for_a_moment_after_its_exit_task(self, server, client, packages, tmp_path):
        server.set_faults(linger_seconds=4.0)
        run_id = start(client, packages["passes_on"], {"folder": str(tmp_path)})
        until = time.monotonic() + END_SECONDS
        while not (tmp_path / "end.json").exists() and time.monotonic() < until:
            time.sleep(0.01)
        assert client.get_run(run_id).state == "RUNNING"
        assert client.get_run(run_id).finished_at.year == 1970
        assert wait_for(client, run_id).state == "SUCCEEDED"

    def test_terminate_signals_the_task_and_runs_no_exit_task(self, client, packages, tmp_path):
        run_id = start(client, packages["waits"], {"folder": str(tmp_path)})
        until = time.monotonic() + END_SECONDS
        while not (tmp_path / "waiting").exists() and time.monotonic() < until:
            time.sleep(0.02)
        assert client.terminate_run(run_id) == {}
        assert client.get_run(run_id).state in ("CANCELING", "CANCELED")
        run = wait_for(client, run_id)
        assert run.state == "CANCELED"
        assert states(run) == ["PENDING", "RUNNING", "CANCELING", "CANCELED"]
        assert (tmp_path / "terminated").exists()
        assert not (tmp_path / "end.json").exists()
        with pytest.raises(kfp_server_api.ApiException) as refused:
            client.terminate_run(run_id)
        assert refused.value.status == 400

    def test_pods_get_the_roles_credentials_and_nothing_of_the_host(self, client, packages, tmp_path, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "the host's")
        monkeypatch.setenv("BATON_SECRET_OF_THE_HOST", "1")
        run = wait_for(
            client, start(client, packages["shows_environment"], {"folder": str(tmp_path)}, service_account="pods")
        )
        assert run.state == "SUCCEEDED"
        seen = json.loads((tmp_path / "environment.json").read_text())
        assert seen["AWS_ENDPOINT_URL"] == "http://localhost:1"
        assert seen["AWS_ACCESS_KEY_ID"] == "kubeflow/pods/us-east-1"
        assert not [name for name in seen if name.startswith("BATON")]

    def test_a_service_account_without_a_role_gets_no_credentials(self, client, packages, tmp_path):
        run = wait_for(client, start(client, packages["shows_environment"], {"folder": str(tmp_path)}))
        assert run.state == "SUCCEEDED"
        seen = json.loads((tmp_path / "environment.json").read_text())
        assert not [name for name in seen if "KEY" in name or "TOKEN" in name]

    def test_independent_tasks_overlap(self, client, packages, tmp_path):
        run = wait_for(client, start(client, packages["overlaps"], {"folder": str(tmp_path)}))
        assert run.state == "SUCCEEDED"

    def test_the_log_of_each_task_can_be_read(self, server, client, packages, tmp_path):
        run_id = wait_for(client, start(client, packages["fails"], {"folder": str(tmp_path)})).run_id
        assert "this task fails on purpose" in server.run(run_id).folder.logs()["fail"]

    def test_the_shell_command_of_the_ir_runs_as_well(self, packages, tmp_path):
        with KfpServer(tmp_path / "kfp", fork=False) as server, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            client = kfp.Client(host=server.url)
            run = wait_for(client, start(client, packages["passes_on"], {"folder": str(tmp_path)}))
            assert run.state == "SUCCEEDED"
            waiting = start(client, packages["waits"], {"folder": str(tmp_path)})
            until = time.monotonic() + END_SECONDS
            while not (tmp_path / "waiting").exists() and time.monotonic() < until:
                time.sleep(0.02)
            client.terminate_run(waiting)
            assert wait_for(client, waiting).state == "CANCELED"
        assert (tmp_path / "terminated").exists()


class TestCreating:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({}, "parameter folder is not optional"),
            ({"folder": "x", "unknown": 1}, "not required by pipeline: unknown"),
            ({"folder": 3}, "requires type string"),
            ({"folder": "x", "count": "many"}, "requires type double or integer"),
            ({"folder": "x", "count": True}, "requires type double or integer"),
        ],
    )
    def test_wrong_parameters_are_refused(self, client, packages, arguments, words):
        before = client.list_runs(page_size=200).total_size or 0
        with pytest.raises(kfp_server_api.ApiException) as refused:
            start(client, packages["passes_on"], arguments)
        assert refused.value.status == 400
        assert json.loads(refused.value.body)["code"] == 3
        assert words in json.loads(refused.value.body)["message"]
        assert (client.list_runs(page_size=200).total_size or 0) == before

    @pytest.mark.parametrize(
        ("change", "status", "code"),
        [
            ({"display_name": ""}, 500, 13),
            ({"surprise": 1}, 400, 3),
            ({"experiment_id": "nowhere"}, 404, 5),
            ({"pipeline_version_reference": {"pipeline_id": "nowhere"}}, 500, 13),
            ({"pipeline_spec": {"no": "pipeline"}}, 400, 3),
        ],
    )
    def test_wrong_requests_get_the_documented_errors(self, client, packages, change, status, code):
        body = {"display_name": "x", "pipeline_spec": yaml.safe_load(Path(packages["overlaps"]).read_text())}
        body = {**body, "runtime_config": {"parameters": {"folder": "x"}}, **change}
        with pytest.raises(kfp_server_api.ApiException) as refused:
            client._run_api.run_service_create_run(run=body)
        assert refused.value.status == status
        assert json.loads(refused.value.body)["code"] == code

    def test_a_version_is_run_by_reference_and_names_of_runs_are_not_unique(self, client, packages, tmp_path):
        pipeline = client.upload_pipeline(packages["passes_on"], pipeline_name="by-reference")
        version = client.upload_pipeline_version(
            packages["passes_on"], pipeline_version_name="abc123", pipeline_id=pipeline.pipeline_id
        )
        experiment = client.create_experiment("by-reference")
        runs = [
            client.run_pipeline(
                experiment.experiment_id,
                "the-same-name",
                pipeline_id=pipeline.pipeline_id,
                version_id=version.pipeline_version_id,
                params={"folder": str(tmp_path)},
                service_account="pods",
            )
            for _ in range(2)
        ]
        assert runs[0].run_id != runs[1].run_id
        assert runs[0].pipeline_version_reference.pipeline_version_id == version.pipeline_version_id
        assert runs[0].service_account == "pods"
        assert {wait_for(client, run.run_id).state for run in runs} == {"SUCCEEDED"}
        same_name = {"operation": 1, "key": "display_name", "stringValue": "the-same-name"}
        found = client.list_runs(filter=json.dumps({"predicates": [same_name]}))
        assert {run.run_id for run in found.runs} == {run.run_id for run in runs}


class TestListing:
    def filtered(self, client, **predicate):
        return client.list_runs(filter=json.dumps({"predicates": [predicate]}), page_size=200)

    def test_pages_follow_each_other_in_order(self, server, client, packages):
        server.set_faults(fail_next_runs=5)
        names = [f"page-{number}" for number in range(5)]
        for name in names:
            start(client, packages["overlaps"], {"folder": "x"}, run_name=name, experiment_name="pages")
        experiment = client.get_experiment(experiment_name="pages").experiment_id
        seen, token = [], ""
        while True:
            page = client.list_runs(
                experiment_id=experiment, page_size=2, page_token=token, sort_by="display_name desc"
            )
            seen += [run.display_name for run in page.runs]
            token = page.next_page_token
            if not token:
                break
        assert seen == names[::-1]
        assert page.total_size == 5

    def test_filters_by_word_or_number_of_the_operation(self, server, client, packages):
        server.set_faults(fail_next_runs=1)
        run_id = start(client, packages["overlaps"], {"folder": "x"}, run_name="filtered-run")
        for operation in (1, "EQUALS"):
            found = self.filtered(client, operation=operation, key="display_name", stringValue="filtered-run")
            assert [run.run_id for run in found.runs] == [run_id]
        assert self.filtered(client, operation="EQUALS", key="name", string_value="filtered").runs is None
        found = self.filtered(client, operation="IS_SUBSTRING", key="display_name", string_value="filtered-r")
        assert [run.run_id for run in found.runs] == [run_id]
        found = self.filtered(client, operation="IN", key="run_id", string_values={"values": [run_id, "other"]})
        assert [run.run_id for run in found.runs] == [run_id]

    def test_a_filter_is_decoded_twice(self, server, client, packages):
        server.set_faults(fail_next_runs=1)
        start(client, packages["overlaps"], {"folder": "x"}, run_name="one+two")
        assert self.filtered(client, operation=1, key="display_name", stringValue="one+two").runs is None
        assert self.filtered(client, operation=1, key="display_name", stringValue="one%2Btwo").runs[0].run_id

    def test_nonsense_is_refused(self, client):
        for arguments in ({"filter": "{"}, {"sort_by": "nothing"}, {"page_token": "x"}, {"page_size": -1}):
            with pytest.raises(kfp_server_api.ApiException) as refused:
                client.list_runs(**arguments)
            assert refused.value.status == 400


class TestPipelinesAndExperiments:
    def test_a_pipeline_is_found_by_name_and_its_versions_are_listed(self, client, packages):
        made = client.upload_pipeline(packages["overlaps"], pipeline_name="found by name", description="d")
        client.upload_pipeline_version(packages["fails"], "second", pipeline_id=made.pipeline_id)
        assert client.get_pipeline_id("found by name") == made.pipeline_id
        named = client._pipelines_api.pipeline_service_get_pipeline_by_name("found by name")
        assert (named.pipeline_id, named.description) == (made.pipeline_id, "d")
        versions = client.list_pipeline_versions(made.pipeline_id).pipeline_versions
        assert [version.display_name for version in versions] == ["found by name", "second"]
        again = client.get_pipeline_version(made.pipeline_id, versions[1].pipeline_version_id)
        assert again.pipeline_spec["pipelineInfo"]["name"] == "fails"

    def test_a_taken_name_is_a_conflict_in_the_form_of_uploads(self, client, packages):
        client.upload_pipeline(packages["overlaps"], pipeline_name="taken")
        with pytest.raises(kfp_server_api.ApiException) as refused:
            client.upload_pipeline(packages["overlaps"], pipeline_name="taken")
        assert refused.value.status == 409
        assert "already exists" in json.loads(refused.value.body)["error_message"]

    def test_an_unknown_name_is_not_found(self, client):
        with pytest.raises(kfp_server_api.ApiException) as refused:
            client._pipelines_api.pipeline_service_get_pipeline_by_name("nobody")
        assert refused.value.status == 404
        assert json.loads(refused.value.body)["code"] == 5

    def test_something_else_than_a_pipeline_is_refused(self, client, tmp_path):
        package = tmp_path / "other.yaml"
        package.write_text("apiVersion: v1\n")
        with pytest.raises(kfp_server_api.ApiException) as refused:
            client._upload_api.upload_pipeline(str(package), name="other")
        assert refused.value.status == 400

    def test_an_experiment_is_found_by_name_and_its_name_is_unique(self, client):
        made = client.create_experiment("an experiment", description="d")
        assert client.get_experiment(experiment_name="an experiment").experiment_id == made.experiment_id
        assert client.get_experiment(experiment_id=made.experiment_id).description == "d"
        with pytest.raises(kfp_server_api.ApiException) as refused:
            client._experiment_api.experiment_service_create_experiment(experiment={"display_name": "an experiment"})
        assert refused.value.status == 409

    def test_runs_are_archived_and_deleted(self, server, client, packages):
        server.set_faults(fail_next_runs=1)
        run_id = start(client, packages["overlaps"], {"folder": "x"})
        client.archive_run(run_id)
        assert client.get_run(run_id).storage_state == "ARCHIVED"
        client.unarchive_run(run_id)
        assert client.get_run(run_id).storage_state == "AVAILABLE"
        client.delete_run(run_id)
        with pytest.raises(kfp_server_api.ApiException) as refused:
            client.get_run(run_id)
        assert refused.value.status == 404

    def test_healthz_tells_the_release(self, client):
        answer = client._healthz_api.healthz_service_get_healthz(_preload_content=False)
        assert json.loads(answer.data)["tag_name"] == "2.17.0"
        assert client.get_kfp_healthz().multi_user is False
