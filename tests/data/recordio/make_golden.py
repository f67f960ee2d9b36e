"""Make the golden files with the SageMaker SDK's own writer; see README.md."""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

Case = tuple[Any, Any]


def cases() -> dict[str, Case]:
    """Return (vectors, labels) of each case; the values are chosen, not random."""
    ramp = (np.arange(4 * 5, dtype=np.float32).reshape(4, 5) - 7) / 8
    wide = (np.arange(3 * 784, dtype=np.float32).reshape(3, 784) % 256) / 256
    special = np.array([[np.nan, np.inf, -np.inf], [-0.0, np.float32(1e-45), np.float32(3.4e38)]], np.float32)
    return {
        "float32_int64": (ramp, np.array([0, 9, 127, 5], np.int64)),
        "mnist_rows": (wide, np.array([5, 0, 4], np.int64)),
        "labels_of_all_widths": (
            np.tile(ramp, (3, 1)),
            np.array([0, 127, 128, 16383, 16384, 2097151, 2097152, 268435455, 268435456, 2147483647, -1, -(2**31)]),
        ),
        "float32_float32": (ramp, np.array([0, 1.5, -2, 9], np.float32)),
        "float64_float64": (ramp.astype(np.float64) / 3, np.array([0, 1.5, -2, 9], np.float64)),
        "no_labels": (ramp, None),
        "one_column": (ramp[:, :1], np.array([1, 2, 3, 4], np.int64)),
        "special_floats": (special, np.array([1, 2], np.int64)),
    }


def sdk_writer(unpacked: Path) -> Any:
    """Return the SDK's ``write_numpy_to_dense_tensor`` from its unpacked wheel, without the rest of the SDK."""
    for name in ("sagemaker", "sagemaker.amazon"):
        package = types.ModuleType(name)
        package.__path__ = [str(unpacked.joinpath(*name.split(".")))]
        sys.modules[name] = package
    utils = types.ModuleType("sagemaker.utils")
    utils.DeferredError = RuntimeError  # type: ignore[attr-defined]  # the only thing that the writer takes from there
    sys.modules["sagemaker.utils"] = utils
    return importlib.import_module("sagemaker.serializer_utils").write_numpy_to_dense_tensor


def main() -> None:
    """Write every case beside this file."""
    write = sdk_writer(Path(sys.argv[1]))
    for name, (vectors, labels) in cases().items():
        with Path(__file__).with_name(f"{name}.recordio").open("wb") as file:
            write(file, vectors, labels)


if __name__ == "__main__":
    main()
