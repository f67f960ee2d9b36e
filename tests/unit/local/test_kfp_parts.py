"""The parts of the embedded Kubeflow Pipelines that need no process."""

import io
import json
import tarfile
import zipfile
from urllib.parse import quote

import pytest
import yaml

from baton_local.kfp import journal
from baton_local.kfp.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from baton_local.kfp.faults import Faults
from baton_local.kfp.listing import page_of
from baton_local.kfp.packages import MAX_BYTES, check_parameters, ir_of, read_inline, read_package
from baton_local.kfp.runner import RunFolder
from baton_local.kfp.runs import Run

IR = {"pipelineInfo": {"name": "p"}, "schemaVersion": "2.1.0", "root": {"dag": {}}}
KEYS = {"id": "id", "name": "display_name", "created_at": "created_at"}
PLATFORM = {"platforms": {"kubernetes": {}}}


def zipped(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("pipeline.yaml", content)
    return buffer.getvalue()


def tarred(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        member = tarfile.TarInfo("pipeline.yaml")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class TestPackages:
    @pytest.mark.parametrize("pack", [bytes, zipped, tarred])
    def test_every_form_of_a_package_is_read(self, pack):
        assert read_package(pack(yaml.safe_dump(IR).encode())) == IR

    def test_a_platform_spec_travels_beside_the_ir(self):
        both = yaml.safe_dump_all([IR, PLATFORM]).encode()
        assert read_package(both) == {"pipeline_spec": IR, "platform_spec": PLATFORM}
        assert ir_of(read_package(both)) == IR
        assert ir_of(read_inline({"pipeline_spec": IR})) == IR

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"- a\n- list",
            b": no: yaml: [",
            b"\xff\xfe\xfd",
            yaml.safe_dump_all([IR, IR]).encode(),
            yaml.safe_dump({**IR, "schemaVersion": "1.0"}).encode(),
            yaml.safe_dump({**IR, "pipelineInfo": {"name": ""}}).encode(),
            b"#" * (MAX_BYTES + 1),
        ],
        ids=["empty", "list", "no yaml", "no text", "two", "old schema", "no name", "too large"],
    )
    def test_anything_else_is_refused(self, content):
        with pytest.raises(InvalidArgument):
            read_package(content)

    def test_optional_parameters_and_those_with_a_default_may_be_missing(self):
        parameters = {
            "a": {"parameterType": "LIST", "isOptional": True},
            "b": {"parameterType": "STRUCT", "defaultValue": {}},
            "c": {"parameterType": "NUMBER_DOUBLE"},
        }
        ir = {"root": {"inputDefinitions": {"parameters": parameters}}}
        check_parameters(ir, {"c": 1})
        check_parameters(ir, {"a": [], "b": {}, "c": 1.5})
        for given in ({}, {"c": "1"}, {"c": 1, "a": {}}, {"c": 1, "d": 1}):
            with pytest.raises(InvalidArgument):
                check_parameters(ir, given)


class TestListing:
    ROWS = tuple({"id": str(n), "display_name": f"n{n % 3}", "created_at": f"2026-01-0{n}"} for n in range(1, 8))

    def ids(self, **query):
        found, _, _ = page_of(list(self.ROWS), query, KEYS)
        return "".join(row["id"] for row in found)

    def filtered(self, *predicates):
        return self.ids(filter=quote(json.dumps({"predicates": predicates})))

    @pytest.mark.parametrize(
        ("operation", "value", "ids"),
        [
            (1, "n1", "147"), ("NOT_EQUALS", "n1", "2356"), (3, "n1", "25"), (5, "n1", "12457"),
            ("LESS_THAN", "n1", "36"), ("LESS_THAN_EQUALS", "n1", "13467"), ("IS_SUBSTRING", "2", "25"),
        ],
    )  # fmt: skip
    def test_every_operation(self, operation, value, ids):
        assert self.filtered({"operation": operation, "key": "name", "stringValue": value}) == ids

    def test_predicates_are_all_needed(self):
        one = {"operation": "EQUALS", "key": "name", "string_value": "n1"}
        other = {"operation": "IN", "key": "id", "stringValues": {"values": ["1", "2", "7"]}}
        assert self.filtered(one, other) == "17"

    def test_order_and_pages(self):
        assert self.ids(sort_by="created_at desc") == "7654321"
        assert self.ids(sort_by="id", page_size="2") == "12"
        first, total, token = page_of(list(self.ROWS), {"page_size": "5"}, KEYS)
        rest, _, end = page_of(list(self.ROWS), {"page_size": "5", "page_token": token}, KEYS)
        assert ([row["id"] for row in first + rest], total, end) == (list("1234567"), 7, "")

    @pytest.mark.parametrize(
        "predicate",
        [
            {"operation": 4, "key": "name", "stringValue": "x"},
            {"operation": 1, "key": "other", "stringValue": "x"},
            {"operation": 1, "key": "name"},
            {"operation": "LIKE", "key": "name", "stringValue": "x"},
        ],
    )
    def test_a_wrong_predicate_is_refused(self, predicate):
        with pytest.raises(InvalidArgument):
            self.filtered(predicate)


class TestJournal:
    def test_a_line_is_read_once_and_only_when_it_is_whole(self, tmp_path):
        path = tmp_path / "journal"
        reader = journal.Reader(path)
        assert reader.news() == []
        journal.write(path, "one", a=1)
        assert [event["event"] for event in reader.news()] == ["one"]
        with path.open("a") as file:
            file.write('{"event": "tw')
        assert reader.news() == []
        with path.open("a") as file:
            file.write('o"}\n')
        assert reader.news() == [{"event": "two"}]
        assert reader.news() == []


class TestRun:
    def run(self, tmp_path):
        folder = RunFolder(tmp_path / "r")
        run = Run("r", "name", "e", "kubeflow", "sa", IR, {}, folder, linger_seconds=0.0)
        folder.prepare("r", IR, {}, {})
        return run

    def test_a_process_that_dies_without_a_word_fails_its_run(self, tmp_path):
        run = self.run(tmp_path)
        journal.write(run.folder.journal, "started", pid=2**22 + 1)
        journal.write(run.folder.journal, "task-started", task="t")
        run.refresh()
        assert run.state == "RUNNING"
        journal.write(run.folder.journal, "exited", code=-9)
        run.refresh()
        assert (run.state, run.tasks["t"].state) == ("FAILED", "FAILED")

    def test_a_run_terminated_before_its_process_is_known_is_canceled(self, tmp_path):
        run = self.run(tmp_path)
        run.terminate()
        assert run.state == "CANCELING"
        journal.write(run.folder.journal, "started", pid=2**22 + 1)
        journal.write(run.folder.journal, "exited", code=143)
        run.refresh()
        assert run.state == "CANCELED"
        with pytest.raises(InvalidArgument):
            run.terminate()

    def test_empty_fields_are_left_out_of_the_wire_form(self, tmp_path):
        wire = self.run(tmp_path).as_wire()
        assert not {"description", "runtime_config", "run_details"} & set(wire)
        assert wire["finished_at"] == "1970-01-01T00:00:00Z"

    def test_what_a_run_needs_is_for_its_owner_alone(self, tmp_path):
        assert self.run(tmp_path).folder.path.stat().st_mode & 0o077 == 0


def test_the_errors_have_the_statuses_of_the_gateway():
    errors = {InvalidArgument("m"): (400, 3), NotFound("m"): (404, 5), AlreadyExists("m"): (409, 6),
              Unavailable("m"): (503, 14)}  # fmt: skip
    for error, expected in errors.items():
        assert (error.status, error.body()["code"]) == expected
        assert error.body()["message"] == "m"
        assert error.body()["details"]


def test_a_fault_that_strikes_some_times_is_used_up():
    faults = Faults()
    faults.change({"lose_next_runs": 2})
    assert [faults.take("lose_next_runs") for _ in range(3)] == [True, True, False]
    with pytest.raises(ValueError, match="no such fault"):
        faults.change({"lose_next_runs": "2"})
