"""One embedded cloud with Baton's own stack, shared by the tests of a session."""

from __future__ import annotations

import json
import pickle
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from baton_local import datasets
from baton_local.cloud import EmbeddedCloud
from baton_local.deployment import Deployment, repository
from baton_local.run import Result, Run

QUICK = {"max_tuning_jobs": 2, "mini_batch_size_min": 100, "mini_batch_size_max": 120}
"""Parameters that make a run on a small data set short."""


class Stage:
    """A deployment on which tests play their runs, one after another."""

    def __init__(self, deployment: Deployment, folder: Path) -> None:
        self.deployment = deployment
        self.folder = folder
        self.good = datasets.small(folder / "digits.pkl.gz", 1200)

    def play(self, dataset: Path | None = None, given: Mapping[str, Any] | None = None) -> Result:
        """Upload a data set (and an input that names it) and follow the run to its end."""
        run = Run(self.deployment)
        parameters = {**QUICK, **(given or {}).get("parameters", {})}
        return run.follow(run.start(dataset or self.good, {**(given or {}), "parameters": parameters}))

    def file(self, name: str, content: bytes) -> Path:
        """Write a file to upload."""
        path = self.folder / name
        path.write_bytes(content)
        return path

    def pickle_of(self, name: str, splits: object) -> Path:
        """Write a pickle of some splits, in the form of the MNIST file where they have it."""
        return self.file(name, pickle.dumps(splits, protocol=2))

    def sagemaker_faults(self, **faults: object) -> None:
        """Set what SageMaker suffers; no argument heals it."""
        self._post(f"{self.deployment.cloud.url}/_baton/sagemaker/faults", faults, "POST" if faults else "DELETE")

    def kfp_faults(self, **faults: object) -> None:
        """Set what Kubeflow Pipelines suffers."""
        self._post(f"{self.deployment.cloud.kfp_url}/_baton/faults", faults, "POST")

    def _post(self, url: str, body: Mapping[str, object], method: str) -> None:
        request = urllib.request.Request(
            url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method=method
        )
        urllib.request.urlopen(request, timeout=10).close()


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """The shared stage, in a European region."""
    folder = tmp_path_factory.mktemp("stage")
    with EmbeddedCloud(speed=400, cache_dir=repository() / ".cache") as cloud:
        yield Stage(Deployment.make(cloud, "eu-west-1"), folder)


def digits(rows: int, seed: int = 7) -> tuple[np.ndarray, np.ndarray]:
    """Return a split of random pixels, for data sets that are refused before anybody looks at the digits."""
    random = np.random.default_rng(seed)
    return random.random((rows, 784), dtype=np.float32), random.integers(0, 10, rows)
