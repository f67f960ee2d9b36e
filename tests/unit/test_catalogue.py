"""The catalogue of packaged pipelines, read from good and from wrong files."""

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from baton.catalogue import Catalogue, InvalidCatalogue, Parameter, did_you_mean
from baton.errors import InvalidInput
from baton.ir import root_inputs
from tests.support.starting import catalogue

TOML = """
[pipeline]
name = "digits"
description = "d"
stages = ["training", "endpoint"]
deadline_seconds = 600
[dataset]
format = "mnist-pickle"
suffixes = [".pkl"]
max_bytes = 1000
max_unpacked_bytes = 1000
[parameters.k]
default = 10
minimum = 2
description = "clusters"
[smoke_test]
min_accuracy = 0
max_p95_ms = 2000
rows = 20
[after]
endpoint = "delete"
hold_seconds = 3600
[images]
repository = "kmeans:1"
[images.accounts]
eu-west-1 = "438346466558"
"""
LIMIT = 'description = "d"\n[parameters.l]\ndefault = 9\n'
NAME = 'description = "d"\n[parameters.name]\ndefault = "ann"\npattern = \'[a-z]+\'\nform = "letters"\n'
IR = "root:\n  inputDefinitions:\n    parameters:\n      k:\n        parameterType: NUMBER_INTEGER\n"


@pytest.fixture
def write(tmp_path):
    def _write(name, toml=TOML, ir=IR):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "pipeline.toml").write_text(toml)
        if ir is not None:
            (folder / "pipeline.yaml").write_text(ir)
        return tmp_path

    return _write


def test_the_packaged_pipelines_are_right():
    found = catalogue().get("mnist_kmeans")
    assert found.images.uri("cn-northwest-1", "amazonaws.com.cn") == (
        "387376663083.dkr.ecr.cn-northwest-1.amazonaws.com.cn/kmeans:1"
    )
    assert found.parameters["k"].default == 10
    assert found.gates["max_p95_ms"].default == 2000.0


@pytest.mark.parametrize("name", catalogue().names)
def test_reading_the_ir_agrees_with_a_yaml_library(name):
    pipeline = catalogue().get(name)
    content = next(yaml.safe_load_all(pipeline.package))
    expected = {
        name: (details["parameterType"], not ("defaultValue" in details or details.get("isOptional", False)))
        for name, details in content["root"]["inputDefinitions"]["parameters"].items()
    }
    assert expected
    assert {name: (d.type, d.required) for name, d in pipeline.inputs.items()} == expected


def test_the_ir_of_a_pipeline_with_platform_specs_and_long_descriptions_is_read():
    ir = """# PIPELINE DEFINITION
# Inputs:
#    a: str
deploymentSpec:
  executors:
    exec-x:
      container:
        command:
        - |2+

          root:
            inputDefinitions:
root:
  dag:
    tasks:
      x:
        inputs:
          parameters:
            ghost:
              parameterType: STRING
  inputDefinitions:
    parameters:
      a:
        description: 'this is long
          parameterType: NO'
        parameterType: STRING
      b:
        defaultValue: 1.0
        parameterType: NUMBER_DOUBLE
      c:
        isOptional: true
        parameterType: BOOLEAN
schemaVersion: 2.1.0
---
platforms:
  kubernetes: {}
"""
    found = root_inputs(ir)
    assert {n: (d.type, d.required) for n, d in found.items()} == {
        "a": ("STRING", True),
        "b": ("NUMBER_DOUBLE", False),
        "c": ("BOOLEAN", False),
    }


def test_the_only_pipeline_is_the_default(write):
    assert Catalogue.read(write("digits")).default.name == "digits"


def test_of_several_pipelines_the_marked_one_is_the_default(write):
    write("digits")
    root = write("letters", TOML.replace('"digits"', '"letters"').replace("[dataset]", "default = true\n[dataset]", 1))
    assert Catalogue.read(root).default.name == "letters"


def test_two_marked_pipelines_are_an_error(write):
    marked = TOML.replace("[dataset]", "default = true\n[dataset]", 1)
    write("digits", marked)
    root = write("letters", marked.replace('"digits"', '"letters"'))
    with pytest.raises(InvalidCatalogue, match="More than one"):
        Catalogue.read(root)


def test_several_pipelines_without_a_mark_have_no_default(write):
    write("digits")
    assert Catalogue.read(write("letters", TOML.replace('"digits"', '"letters"'))).default is None


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('name = "digits"', 'name = "Digits"', "pipeline.name is 'Digits', and must match"),
        ('name = "digits"', 'name = "letters"', "pipeline.name is 'letters', and the folder is 'digits'"),
        ('description = "d"', "", "pipeline.description is missing"),
        ('"training", "endpoint"', '"training", "fly"', "pipeline.stages has 'fly'"),
        ('"training", "endpoint"', '"endpoint"', "pipeline.stages must have 'training'"),
        ("deadline_seconds = 600", "deadline_seconds = 5", "pipeline.deadline_seconds is 5"),
        ("deadline_seconds = 600", "deadline_seconds = true", "pipeline.deadline_seconds is True"),
        ("deadline_seconds = 600", 'deadline_seconds = 600\ndataset = "mnist.pkl"', "pipeline.dataset is 'mnist.pkl'"),
        ('suffixes = [".pkl"]', "suffixes = []", "dataset.suffixes must not be empty"),
        ('suffixes = [".pkl"]', "suffixes = [1]", "dataset.suffixes has 1"),
        ("max_bytes = 1000", 'max_bytes = "1000"', "dataset.max_bytes is '1000', and must be a whole number"),
        ("minimum = 2", "minimum = 11", "parameters.k.default is 10, and must be a whole number from 11"),
        ("minimum = 2", 'minimum = "2"', "parameters.k.minimum is '2', and must be a number"),
        ("minimum = 2", "min = 2", "parameters.k.min is not a known field"),
        ("default = 10", "default = [10]", "parameters.k.default is [10]"),
        ("minimum = 2", 'at_most = "l"', "parameters.k has a rule with 'l'; both must be parameters with a number"),
        ("minimum = 2", 'at_most = "name"\n' + NAME, "parameters.k has a rule with 'name'"),
        ("minimum = 2", 'at_most = "l"\n' + LIMIT, "parameters.k.default must be at most l, which is 9, not 10"),
        (
            "minimum = 2",
            'product = { with = "l", maximum = 89 }\n' + LIMIT,
            "parameters.k.default times l, which is 9, must be at most 89, and is 90",
        ),
        ("minimum = 2", "product = { maximum = 89 }", "parameters.k.product.with is missing"),
        ("minimum = 2", 'product = { with = "k" }', "parameters.k.product.maximum must be a number"),
        ("minimum = 2", 'product = { with = "k", maximum = 100, least = 1 }', "parameters.k.product.least is not a"),
        ("minimum = 2", "pattern = '[0-9]+'", "parameters.k has a pattern or a form, which only a text can have"),
        ("minimum = 2", NAME.replace("[a-z]+", "("), "parameters.name.pattern is '(', which is no regular expression"),
        (
            "minimum = 2",
            NAME.replace('"ann"', '"7"'),
            "parameters.name.default is '7', and must be of the form letters",
        ),
        ("min_accuracy = 0", "min_accuracy = 2", "smoke_test.min_accuracy is 2, and must be a number from 0 to 1"),
        ("rows = 20", "", "smoke_test.rows is missing"),
        ('endpoint = "delete"', 'endpoint = "burn"', "after.endpoint is 'burn'"),
        ("[after]", "[afterwards]", "after.endpoint is missing"),
        ('"438346466558"', '"4383"', "images.accounts.eu-west-1 is '4383'"),
        ("mnist-pickle", "parquet", "dataset.format is 'parquet', and must be one of mnist-pickle."),
    ],
)
def test_what_is_wrong_in_a_file_is_told(write, old, new, problem):
    assert old in TOML
    with pytest.raises(InvalidCatalogue) as error:
        Catalogue.read(write("digits", TOML.replace(old, new, 1)))
    assert problem in str(error.value)
    assert str(error.value).startswith("digits/pipeline.toml: ")


def test_every_problem_of_a_file_is_told_at_once(write):
    toml = TOML.replace("deadline_seconds = 600", "").replace("rows = 20", "rows = 19").replace('"kmeans:1"', "7")
    with pytest.raises(InvalidCatalogue) as error:
        Catalogue.read(write("digits", toml))
    for field in ("pipeline.deadline_seconds", "smoke_test.rows", "images.repository"):
        assert field in str(error.value)


def test_a_file_that_is_no_toml_is_told(write):
    with pytest.raises(InvalidCatalogue, match=r"digits/pipeline\.toml"):
        Catalogue.read(write("digits", "pipeline ="))


def test_a_pipeline_without_its_compiled_form_is_told(write):
    with pytest.raises(InvalidCatalogue, match=r"no pipeline\.yaml"):
        Catalogue.read(write("digits", ir=None))


def test_folders_without_a_pipeline_are_passed_over(write, tmp_path):
    (tmp_path / "steps").mkdir()
    (tmp_path / "Makefile").write_text("")
    assert Catalogue.read(write("digits")).names == ["digits"]


def test_an_unknown_pipeline_is_told_with_the_closest(write):
    with pytest.raises(InvalidInput, match="perhaps 'digits' is meant"):
        Catalogue.read(write("digits")).get("digit")


def test_the_default_data_set_may_lie_in_the_run_bucket(write):
    uri = "s3://{bucket}/datasets/mnist.pkl"
    root = write("digits", TOML.replace("[dataset]", f'dataset = "{uri}"\n[dataset]', 1))
    assert Catalogue.read(root).get("digits").default_dataset("mine", "in/") == "s3://mine/datasets/mnist.pkl"


def test_the_digest_is_of_the_compiled_content(write):
    write("digits")
    root = write("letters", TOML.replace('"digits"', '"letters"'), IR + "#\n")
    found = Catalogue.read(root)
    assert found.get("digits").digest != found.get("letters").digest


@pytest.mark.parametrize(
    ("default", "good", "bad"),
    [
        (1, [0, -5, 10**9], [1.0, True, "1", None, [1]]),
        (1.5, [1, 2.5, -0.0], [10**400, math.nan, math.inf, -math.inf, True, "1.5"]),
        (True, [True, False], [1, 0, "true", None]),
        ("a", ["", "b", "x" * 2048], [1, None, "x" * 2049]),
    ],
)
def test_the_type_of_a_parameter_is_its_defaults(default, good, bad):
    parameter = Parameter("p", default)
    assert all(parameter.accepts(value) for value in good)
    assert not any(parameter.accepts(value) for value in bad)


@given(st.integers(), st.integers(-100, 0), st.integers(1, 100))
def test_bounds_are_kept(value, minimum, maximum):
    parameter = Parameter("p", 0, "", minimum, maximum)
    assert parameter.accepts(value) == (minimum <= value <= maximum)


def test_a_text_with_a_pattern_matches_it_as_a_whole():
    parameter = Parameter("p", "ml.m5.large", pattern=r"ml\.[a-z0-9]+\.[a-z0-9]+", form="ml.<family>.<size>")
    assert parameter.accepts("ml.c5.xlarge")
    assert not any(parameter.accepts(value) for value in ("banana", "ml.m5", "ml.m5.large\n", "x ml.m5.large", ""))
    assert parameter.expected == "of the form ml.<family>.<size>"
    assert Parameter("p", "a", pattern="[a-z]").expected == "a text that matches [a-z]"


def test_did_you_mean_lists_all_where_none_is_close():
    assert did_you_mean("zzz", ["alpha", "beta"]) == "; there are: alpha, beta"
