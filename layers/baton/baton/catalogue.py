"""The pipelines that travel with the functions: their defaults, their bounds, and their compiled form.

A pipeline is a folder with ``pipeline.toml`` and ``pipeline.yaml`` (kfp's IR); docs/architecture.md has the schema of
the first. In a function the folders are the package ``baton_pipelines`` of the pipelines layer.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

from baton.errors import InvalidInput
from baton.ir import InputDefinition, root_inputs
from baton.names import split_s3_uri
from baton.tables import Table

STAGES = ("tuning", "training", "transform", "endpoint")
ENDPOINT_FATES = ("delete", "keep", "hold")
DATASET_FORMATS = ("mnist-pickle",)
"""The formats that Prepare data reads."""
MIN_DEADLINE_SECONDS = 60
MAX_DEADLINE_SECONDS = 330 * 24 * 3600
"""A standard workflow lives at most a year; this and the longest hold leave some days of it for clean-up."""
MAX_HOLD_SECONDS = 30 * 24 * 3600
MIN_ROWS = 20
"""The fewest rows of a smoke test: the accuracy is measured on every other row, and ten of those are shown."""
MAX_TEXT = 2048
"""The longest value of a text parameter, in characters; the plan has to fit into the state machine's 256 KiB."""

Value = bool | int | float | str

_KINDS: Mapping[type, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


class InvalidCatalogue(ValueError):
    """A packaged pipeline is wrong; the message names the file and every problem in it."""


@dataclass(frozen=True)
class Product:
    """A rule over two parameters: multiplied with each other they stay at or below a limit."""

    other: str
    maximum: float


@dataclass(frozen=True)
class Parameter:
    """One parameter of a pipeline: its default, whose type is the parameter's, and what else it may be.

    ``pattern`` is a regular expression for the whole of a text, and ``form`` says the same to a person. ``at_most``
    names the parameter that this one must not exceed.
    """

    name: str
    default: Value
    description: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Value, ...] = ()
    pattern: str = ""
    form: str = ""
    at_most: str = ""
    product: Product | None = None

    @property
    def expected(self) -> str:
        """What would be right, in words: "a whole number from 2 to 1000"."""
        if self.choices:
            return "one of " + ", ".join(repr(choice) for choice in self.choices)
        if self.pattern:
            return f"of the form {self.form}" if self.form else f"a text that matches {self.pattern}"
        bounds = {"from": self.minimum, "to": self.maximum}
        limits = [f" {word} {bound:.15g}" for word, bound in bounds.items() if bound is not None]
        return _KINDS[type(self.default)] + "".join(limits)

    def accepts(self, value: object) -> bool:
        """Whether a value has the parameter's type and lies within its bounds."""
        if not _is_a(value, type(self.default)):
            return False
        if self.choices and value not in self.choices:
            return False
        if isinstance(value, str):
            return len(value) <= MAX_TEXT and (not self.pattern or bool(re.fullmatch(self.pattern, value)))
        assert isinstance(value, int | float)
        above = self.minimum is None or value >= self.minimum
        return above and (self.maximum is None or value <= self.maximum) and _is_finite(value)

    def convert(self, value: Value) -> Value:
        """Return an accepted value in the parameter's own type: 1 for a number with fractions becomes 1.0."""
        return float(value) if isinstance(self.default, float) else value


GATES: Mapping[str, Parameter] = {
    "min_accuracy": Parameter("min_accuracy", 0.0, "", 0.0, 1.0),
    "max_p95_ms": Parameter("max_p95_ms", 60_000.0, "", 1.0, 60_000.0),
    "rows": Parameter("rows", MIN_ROWS, "", MIN_ROWS, 100_000),
}
"""The limits within which every pipeline and every input sets the gates of a smoke test."""


@dataclass(frozen=True)
class DatasetRules:
    """What a data set of a pipeline may be; sizes in bytes."""

    format: str
    suffixes: tuple[str, ...]
    max_bytes: int
    max_unpacked_bytes: int


@dataclass(frozen=True)
class Images:
    """Where SageMaker keeps the algorithm's image: the repository, and the account in each region."""

    repository: str
    accounts: Mapping[str, str]

    def uri(self, region: str, url_suffix: str) -> str | None:
        """Return the image's URI in a region, or None where its account is not known."""
        account = self.accounts.get(region)
        return f"{account}.dkr.ecr.{region}.{url_suffix}/{self.repository}" if account else None

    def form(self, region: str, url_suffix: str) -> str:
        """Return the form of the images that may be named instead: any account's, in the region and of the repository.

        The SageMaker role may pull no others, and SageMaker takes none from another region.
        """
        return f"ACCOUNT.dkr.ecr.{region}.{url_suffix}/{self._name}:TAG"

    def allows(self, uri: object, region: str, url_suffix: str) -> bool:
        """Whether a value is an image's URI of that form, with a tag, a digest, both or neither."""
        place = re.escape(f".dkr.ecr.{region}.{url_suffix}/{self._name}")
        form = rf"[0-9]{{12}}{place}(:[\w][\w.-]{{0,127}})?(@sha256:[0-9a-f]{{64}})?"
        return isinstance(uri, str) and bool(re.fullmatch(form, uri, re.ASCII))

    @property
    def _name(self) -> str:
        return self.repository.partition(":")[0]


@dataclass(frozen=True)
class Pipeline:
    """A packaged pipeline."""

    name: str
    description: str
    is_default: bool
    stages: tuple[str, ...]
    deadline_seconds: int
    dataset: str | None
    dataset_rules: DatasetRules
    parameters: Mapping[str, Parameter]
    gates: Mapping[str, Parameter]
    endpoint_fate: str
    hold_seconds: int
    images: Images
    package: bytes

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the compiled pipeline, in hexadecimal."""
        return hashlib.sha256(self.package).hexdigest()

    @cached_property
    def inputs(self) -> Mapping[str, InputDefinition]:
        """The runtime parameters that the compiled pipeline declares."""
        return root_inputs(self.package.decode())

    def default_dataset(self, run_bucket: str, upload_prefix: str) -> str | None:
        """Return the URI of the default data set, or None.

        ``{bucket}`` in it stands for the run bucket, ``{uploads}`` for the prefix of its uploads, such as ``uploads/``.
        """
        if not self.dataset:
            return None
        return self.dataset.replace("{bucket}", run_bucket).replace("{uploads}", upload_prefix)


class Catalogue:
    """The packaged pipelines by name."""

    def __init__(self, pipelines: Mapping[str, Pipeline]) -> None:
        self._pipelines = dict(sorted(pipelines.items()))
        if sum(pipeline.is_default for pipeline in self._pipelines.values()) > 1:
            raise InvalidCatalogue("More than one pipeline says `default = true`.")

    @classmethod
    def packaged(cls) -> Catalogue:
        """Read the pipelines of the pipelines layer."""
        return cls.read(files("baton_pipelines"))

    @classmethod
    def read(cls, root: Traversable) -> Catalogue:
        """Read every folder under ``root`` that has a ``pipeline.toml``; raise InvalidCatalogue for a wrong one."""
        folders = [f for f in root.iterdir() if f.is_dir() and f.joinpath("pipeline.toml").is_file()]
        return cls({folder.name: _read_pipeline(folder) for folder in folders})

    @property
    def names(self) -> list[str]:
        """The pipelines' names, sorted."""
        return list(self._pipelines)

    @property
    def pipelines(self) -> list[Pipeline]:
        """The pipelines, sorted by name."""
        return list(self._pipelines.values())

    @property
    def only(self) -> Pipeline | None:
        """The pipeline where there is just one, or None."""
        return self.pipelines[0] if len(self._pipelines) == 1 else None

    @property
    def default(self) -> Pipeline | None:
        """The pipeline of a run that names none: the marked one, or the only one."""
        return self.only or next((p for p in self.pipelines if p.is_default), None)

    def find(self, name: str) -> Pipeline | None:
        """Return a pipeline, or None where there is none of this name."""
        return self._pipelines.get(name)

    def get(self, name: str) -> Pipeline:
        """Return a pipeline; raise InvalidInput where there is none of this name."""
        found = self.find(name)
        if found is None:
            raise InvalidInput(f"There is no pipeline {name!r}{did_you_mean(name, self.names)}.")
        return found


def broken_rules(
    parameters: Mapping[str, Parameter], values: Mapping[str, Any], wrong: Collection[str] = ()
) -> list[tuple[str, str]]:
    """Return what breaks a rule over two parameters, as (name, what is wrong with it).

    A rule over one of the ``wrong`` parameters says nothing: its real value is not known.
    """
    found = []
    for name, parameter in parameters.items():
        if name in wrong:
            continue
        other, product = parameter.at_most, parameter.product
        if other and other not in wrong and values[name] > values[other]:
            found.append((name, f"must be at most {other}, which is {values[other]}, not {values[name]}"))
        if product and product.other not in wrong and values[name] * values[product.other] > product.maximum:
            words = f"times {product.other}, which is {values[product.other]}, must be at most {product.maximum:.15g}"
            found.append((name, f"{words}, and is {values[name] * values[product.other]}"))
    return found


def did_you_mean(given: str, known: list[str]) -> str:
    """Return the end of a sentence that names the closest of the known names, or all of them."""
    close = difflib.get_close_matches(given, known, n=1)
    if close:
        return f"; perhaps {close[0]!r} is meant"
    return f"; there are: {', '.join(known)}" if known else ""


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def _is_a(value: object, kind: type) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, int | float) if kind is float else isinstance(value, kind)


def _read_pipeline(folder: Traversable) -> Pipeline:
    where = f"{folder.name}/pipeline.toml"
    try:
        content = tomllib.loads(folder.joinpath("pipeline.toml").read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidCatalogue(f"{where}: {error}") from error
    compiled = folder.joinpath("pipeline.yaml")
    if not compiled.is_file():
        raise InvalidCatalogue(f"{folder.name}: there is no pipeline.yaml beside pipeline.toml.")
    problems: list[str] = []
    pipeline = _pipeline(folder.name, Table(content, "", problems), compiled.read_bytes())
    if problems:
        raise InvalidCatalogue(f"{where}: " + " ".join(problems))
    return pipeline


def _pipeline(name: str, root: Table, package: bytes) -> Pipeline:
    head, after = root.table("pipeline"), root.table("after")
    pipeline = Pipeline(
        name=head.matching("name", r"[a-z][a-z0-9_]{0,39}"),
        description=head.text("description"),
        is_default=head.flag("default", False),
        stages=head.texts("stages", STAGES),
        deadline_seconds=head.integer("deadline_seconds", MIN_DEADLINE_SECONDS, MAX_DEADLINE_SECONDS),
        dataset=head.text("dataset", "") or None,
        dataset_rules=_dataset_rules(root.table("dataset")),
        parameters=_parameters(root.table("parameters")),
        gates=_gates(root.table("smoke_test")),
        endpoint_fate=after.choice("endpoint", ENDPOINT_FATES),
        hold_seconds=after.integer("hold_seconds", 1, MAX_HOLD_SECONDS),
        images=_images(root.table("images")),
        package=package,
    )
    for table in (head, after, root):
        table.finish()
    _cross_check(pipeline, name, root)
    return pipeline


def _cross_check(pipeline: Pipeline, folder: str, root: Table) -> None:
    if pipeline.name != folder:
        root.problem("pipeline.name", f"is {pipeline.name!r}, and the folder is {folder!r}")
    if "training" not in pipeline.stages:
        root.problem("pipeline.stages", "must have 'training': every other stage needs its model, or leads to it")
    if not pipeline.dataset_rules.suffixes:
        root.problem("dataset.suffixes", "must not be empty")
    if pipeline.dataset:
        _check_default_dataset(pipeline.dataset, root)


def _check_default_dataset(uri: str, root: Table) -> None:
    try:
        split_s3_uri(uri.replace("{bucket}", "run-bucket"))
    except ValueError:
        root.problem("pipeline.dataset", f"is {uri!r}, and must be of the form s3://bucket/key or s3://{{bucket}}/key")


def _dataset_rules(table: Table) -> DatasetRules:
    rules = DatasetRules(
        format=table.choice("format", DATASET_FORMATS),
        suffixes=table.texts("suffixes"),
        max_bytes=table.integer("max_bytes", 1),
        max_unpacked_bytes=table.integer("max_unpacked_bytes", 1),
    )
    table.finish()
    return rules


def _parameters(table: Table) -> dict[str, Parameter]:
    parameters = {name: _parameter(name, table.table(name)) for name in table.fields}
    _check_rules(parameters, table)
    return parameters


def _parameter(name: str, table: Table) -> Parameter:
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        table.problem("", "must have a name of the form [a-z][a-z0-9_]*")
    parameter = Parameter(
        name=name,
        default=table.scalar("default"),
        description=table.text("description"),
        minimum=table.number("minimum"),
        maximum=table.number("maximum"),
        choices=table.scalars("choices"),
        pattern=_pattern(table),
        form=table.text("form", ""),
        at_most=table.text("at_most", ""),
        product=_product(table),
    )
    if (parameter.pattern or parameter.form) and not isinstance(parameter.default, str):
        table.problem("", "has a pattern or a form, which only a text can have")
    if not parameter.accepts(parameter.default):
        table.problem("default", f"is {parameter.default!r}, and must be {parameter.expected}")
    table.finish()
    return parameter


def _pattern(table: Table) -> str:
    pattern = table.text("pattern", "")
    try:
        re.compile(pattern)
    except re.error as error:
        table.problem("pattern", f"is {pattern!r}, which is no regular expression: {error}")
        return ""
    return pattern


def _product(table: Table) -> Product | None:
    if "product" not in table.fields:
        return None
    rule = table.table("product")
    other, maximum = rule.text("with"), rule.number("maximum")
    if maximum is None:
        rule.problem("maximum", "must be a number")
    rule.finish()
    return Product(other, maximum) if other and maximum is not None else None


def _check_rules(parameters: Mapping[str, Parameter], table: Table) -> None:
    """Note rules over two parameters that name none, that compare what is no number, or that the defaults break."""
    wrong = set()
    for name, parameter in parameters.items():
        for other in (parameter.at_most, parameter.product.other if parameter.product else ""):
            if other and not all(_is_number(parameters.get(one)) for one in (name, other)):
                table.problem(name, f"has a rule with {other!r}; both must be parameters with a number")
                wrong |= {name, other}
    for name, words in broken_rules(parameters, {n: p.default for n, p in parameters.items()}, wrong):
        table.problem(f"{name}.default", words)


def _is_number(parameter: Parameter | None) -> bool:
    return parameter is not None and _is_a(parameter.default, float)


def _gates(table: Table) -> dict[str, Parameter]:
    gates = {}
    for name, limit in GATES.items():
        default = table.scalar(name)
        if limit.accepts(default):
            gates[name] = Parameter(name, limit.convert(default), "", limit.minimum, limit.maximum)
        else:
            table.problem(name, f"is {default!r}, and must be {limit.expected}")
    table.finish()
    return gates


def _images(table: Table) -> Images:
    accounts = table.table("accounts")
    images = Images(
        repository=table.matching("repository", r"[a-z0-9][a-z0-9._/-]*(:[\w][\w.-]*)?"),
        accounts={region: accounts.matching(region, r"[0-9]{12}") for region in accounts.fields},
    )
    table.finish()
    return images
