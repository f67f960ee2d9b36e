"""The algorithm, its hyperparameters, its formats and its model file."""

from __future__ import annotations

import io
import json
import pickle
import tarfile

import numpy as np
import pytest

from baton_local.sagemaker import formats, kmeans, worker
from baton_local.sagemaker.formats import FormatError, UnsupportedTypeError, parse_rows, render_predictions
from baton_local.sagemaker.kmeans import ClientError, Hyperparameters
from baton_local.sagemaker.recordio import payloads
from tests.integration.local.sagemaker_helpers import recordio, rows

MINIMUM = {"k": "3", "feature_dim": "4"}


def parsed(**changes: str) -> Hyperparameters:
    return Hyperparameters.parse({**MINIMUM, **changes})


class TestHyperparameters:
    def test_defaults_are_those_of_the_built_in_algorithm(self):
        found = parsed()
        assert (found.epochs, found.mini_batch_size, found.init_method) == (1, 5000, "random")
        assert found.extra_center_factor is None
        assert found.eval_metrics == ("msd",)

    def test_reads_strings(self):
        found = parsed(mini_batch_size="550", extra_center_factor="12", eval_metrics='["msd", "ssd"]')
        assert (found.mini_batch_size, found.extra_center_factor, found.eval_metrics) == (550, 12, ("msd", "ssd"))

    def test_auto_is_none(self):
        assert parsed(extra_center_factor="auto").extra_center_factor is None

    def test_what_tuning_adds_is_not_the_algorithms(self):
        assert parsed(_tuning_objective_metric="test:msd") == parsed()

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"feature_dim": "4"}, "'k' is a required property"),
            ({"k": "3"}, "'feature_dim' is a required property"),
            ({**MINIMUM, "max_iterations": "9"}, "'max_iterations' was unexpected"),
            ({**MINIMUM, "k": "0"}, "k: 0 is not between"),
            ({**MINIMUM, "k": "ten"}, "'ten' is not of type 'int'"),
            ({**MINIMUM, "epochs": "1.5"}, "epochs"),
            ({**MINIMUM, "init_method": "best"}, "'best' is not one of"),
            ({**MINIMUM, "eval_metrics": "msd"}, "must be valid json"),
            ({**MINIMUM, "eval_metrics": '["mse"]'}, "eval_metrics"),
            ({**MINIMUM, "mini_batch_size": "auto"}, "mini_batch_size"),
        ],
    )
    def test_refuses_as_a_client_error(self, given, message):
        with pytest.raises(ClientError) as refusal:
            Hyperparameters.parse(given)
        assert str(refusal.value).startswith("ClientError: ")
        assert message in str(refusal.value)


class TestFit:
    @pytest.mark.parametrize("init", ["random", "kmeans++"])
    def test_finds_the_centres_that_the_data_were_made_around(self, init):
        found = kmeans.fit(rows(900), parsed(init_method=init, mini_batch_size="100", extra_center_factor="5"), 1)
        wanted = np.array([[0, 0, 0, 0], [0, 0, 1, 1], [1, 1, 0, 0]])
        assert np.allclose(sorted(found.round(0).tolist()), wanted)
        assert np.allclose(found, found.round(0), atol=0.05)

    def test_the_same_seed_gives_the_same_centres(self):
        data, parameters = rows(300), parsed(mini_batch_size="50")
        assert np.array_equal(kmeans.fit(data, parameters, 5), kmeans.fit(data, parameters, 5))

    def test_as_many_centres_as_rows(self):
        assert kmeans.fit(rows(3), parsed(), 0).shape == (3, 4)

    def test_quality_is_the_mean_and_the_sum_of_squared_distances(self):
        data = np.array([[0, 0], [3, 4]], np.float32)
        assert kmeans.quality(data, np.zeros((1, 2), np.float32)) == {"msd": 12.5, "ssd": 25.0}

    def test_nearest_works_across_chunks(self):
        data = rows(20_000)
        centres = data[:5].copy()
        clusters, distances = kmeans.nearest(data, centres)
        exact = np.linalg.norm(data[:, None] - centres[None], axis=2)
        assert np.allclose(distances, exact.min(axis=1), atol=1e-5)
        assert np.allclose(exact[np.arange(len(data)), clusters], exact.min(axis=1), atol=1e-5)

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (np.zeros((5, 3), np.float32), "feature dimension 3, but hyperparameter feature_dim is 4"),
            (np.full((5, 4), np.nan, np.float32), "NaN"),
            (np.full((5, 4), np.inf, np.float32), "infinite"),
            (np.zeros((2, 4), np.float32), "fewer than k=3"),
        ],
    )
    def test_refuses_data_that_do_not_fit(self, data, message):
        with pytest.raises(ClientError, match=message):
            kmeans.check_data(data, "train", parsed())


class TestModelFile:
    def test_round_trip(self):
        assert np.array_equal(kmeans.load_model(kmeans.save_model(rows(3))), rows(3))

    def test_has_one_file_that_numpy_reads_without_pickle(self):
        with tarfile.open(fileobj=io.BytesIO(kmeans.save_model(rows(3)))) as tar:
            assert tar.getnames() == ["model_algo-1"]
            content = tar.extractfile("model_algo-1").read()
        assert np.load(io.BytesIO(content), allow_pickle=False)["centres"].shape == (3, 4)

    def archive(self, name: str, content: bytes) -> bytes:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        return buffer.getvalue()

    @pytest.mark.parametrize("content", [b"", b"no archive", pickle.dumps([1])])
    def test_refuses_what_is_no_model(self, content):
        for data in (content, self.archive("model_algo-1", content), self.archive("other", content)):
            with pytest.raises(ValueError, match=r".+"):
                kmeans.load_model(data)

    def test_refuses_pickled_arrays(self):
        buffer = io.BytesIO()
        np.savez(buffer, centres=np.array([{"an": "object"}], dtype=object))
        with pytest.raises(ValueError, match="allow_pickle"):
            kmeans.load_model(self.archive("model_algo-1", buffer.getvalue()))


class TestRequests:
    def test_csv(self):
        assert parse_rows(b"1,2\n3,4.5\r\n", "text/csv").tolist() == [[1, 2], [3, 4.5]]

    def test_csv_with_labels(self):
        assert parse_rows(b"9,1,2\n9,3,4", "text/csv;label_size=1").tolist() == [[1, 2], [3, 4]]

    def test_json_in_both_forms(self):
        mirrored = {"data": {"features": {"values": [3, 4]}}}
        body = json.dumps({"instances": [{"features": [1, 2]}, mirrored]}).encode()
        assert parse_rows(body, "application/json").tolist() == [[1, 2], [3, 4]]

    def test_json_lines(self):
        assert parse_rows(b'{"features": [1, 2]}\n\n{"features": [3, 4]}\n', formats.JSON_LINES).shape == (2, 2)

    def test_recordio(self):
        assert np.array_equal(parse_rows(recordio(rows(5)), formats.RECORDIO), rows(5))

    @pytest.mark.parametrize("body", [b"", b"1,2\n3", b"1,x", b"1,,2", b"1_0,2", b"\xff,1"])
    def test_refuses_bad_csv(self, body):
        with pytest.raises(FormatError):
            parse_rows(body, "text/csv")

    @pytest.mark.parametrize(
        "body", [b"", b"{}", b"[]", b'{"instances": []}', b'{"instances": [{"features": [1]}, {"features": [1, 2]}]}']
    )
    def test_refuses_bad_json(self, body):
        with pytest.raises(FormatError):
            parse_rows(body, "application/json")

    @pytest.mark.parametrize("kind", ["", "text/plain", "application/xml"])
    def test_does_not_know_other_types(self, kind):
        with pytest.raises(UnsupportedTypeError):
            parse_rows(b"1,2", kind)


class TestResponses:
    clusters, distances = np.array([4, 0]), np.array([7.25, 1.5], np.float32)

    def test_json_is_the_default(self):
        kind, body = render_predictions(self.clusters, self.distances, "*/*")
        assert kind == "application/json"
        assert json.loads(body) == {
            "predictions": [
                {"distance_to_cluster": 7.25, "closest_cluster": 4.0},
                {"distance_to_cluster": 1.5, "closest_cluster": 0.0},
            ]
        }

    def test_json_lines(self):
        _, body = render_predictions(self.clusters, self.distances, "application/jsonlines")
        assert [json.loads(line)["closest_cluster"] for line in body.splitlines()] == [4.0, 0.0]

    def test_csv_has_the_cluster_first(self):
        assert render_predictions(self.clusters, self.distances, "text/csv")[1] == b"4.0,7.25\n0.0,1.5\n"

    def test_recordio_has_two_labels_and_no_features(self):
        _, body = render_predictions(self.clusters, self.distances, formats.RECORDIO)
        first = next(iter(payloads(body)))
        assert first.index(b"closest_cluster") < first.index(b"distance_to_cluster")
        assert np.frombuffer(first[-4:], "<f4")[0] == 7.25

    def test_takes_the_first_type_that_it_knows(self):
        assert render_predictions(self.clusters, self.distances, "text/html, text/csv")[0] == "text/csv"

    def test_refuses_types_that_it_does_not_know(self):
        with pytest.raises(UnsupportedTypeError):
            render_predictions(self.clusters, self.distances, "image/png")


class TestBatches:
    def job(self, **changes: object) -> dict:
        return {"TransformInput": {"SplitType": "Line"}, "BatchStrategy": "MultiRecord", "MaxPayloadInMB": 1, **changes}

    def test_as_many_lines_as_fit(self):
        data = b"".join(b"x" * 400_000 + b"\n" for _ in range(5))
        assert [len(batch) for batch in worker._batches(data, self.job())] == [800_002, 800_002, 400_001]

    def test_single_records(self):
        assert list(worker._batches(b"a\nb\nc", self.job(BatchStrategy="SingleRecord"))) == [b"a\n", b"b\n", b"c"]

    def test_not_split(self):
        assert list(worker._batches(b"a\nb", self.job(TransformInput={"SplitType": "None"}))) == [b"a\nb"]

    def test_zero_is_no_limit(self):
        assert len(list(worker._batches(b"x" * 9_000_000 + b"\ny", self.job(MaxPayloadInMB=0)))) == 1

    def test_a_record_that_is_too_long_is_refused(self):
        with pytest.raises(FormatError):
            list(worker._batches(b"x" * 2_000_000, self.job()))

    @pytest.mark.parametrize(
        ("source", "key", "where"),
        [
            ("s3://b/runs/r/input/", "runs/r/input/valid.csv", "s3://out/p/valid.csv.out"),
            ("s3://b/runs/r/input", "runs/r/input/valid.csv", "s3://out/p/valid.csv.out"),
            ("s3://b/runs/r/input/valid.csv", "runs/r/input/valid.csv", "s3://out/p/valid.csv.out"),
            ("s3://b/runs/r/", "runs/r/input/valid.csv", "s3://out/p/input/valid.csv.out"),
            ("s3://b", "valid.csv", "s3://out/p/valid.csv.out"),
            ("s3://b/inp", "input.csv", "s3://out/p/input.csv.out"),
        ],
    )
    def test_where_the_predictions_go(self, source, key, where):
        assert worker.output_uri("s3://out/p/", source, key) == where
