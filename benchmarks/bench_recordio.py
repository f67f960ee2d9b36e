"""How fast RecordIO-protobuf is written: ours, and the SageMaker SDK's writer as its peer, in the same process.

The peer is the SDK's own code, fetched as a wheel with pip into a temporary folder. Where it cannot be fetched, a loop
over the same protobuf messages takes its place; the output says which of the two it was. Both write the same rows and
must give the same bytes.
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "layers/baton")]

from baton.dataset.recordio import MAGIC, write_dense  # noqa: E402
from tests.data.recordio.make_golden import sdk_writer  # noqa: E402

ROWS, COLUMNS = 50_000, 784
PEER_ROWS = 5_000
ROUNDS = 5
SDK = "sagemaker==2.257.7"

Write = Callable[[Any, Any, Any], None]


def data(rows: int) -> tuple[Any, Any]:
    """Return images of MNIST's form: float32 in [0, 1), and labels 0 to 9."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (rows, COLUMNS)).astype(np.float32) / 256
    return images, random.integers(0, 10, rows)


def seconds(write: Write, images: Any, labels: Any, rounds: int) -> tuple[float, bytes]:
    """Return the median time of some rounds, and what was written."""
    taken = []
    for _ in range(rounds):
        buffer = io.BytesIO()
        start = time.perf_counter()
        write(buffer, images, labels)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), buffer.getvalue()


def peer(folder: Path) -> tuple[str, Write]:
    """Return the peer's name and its writer."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    try:
        subprocess.run([*command, "--dest", folder, SDK], check=True, capture_output=True, timeout=120)
        (wheel,) = folder.glob("*.whl")
        zipfile.ZipFile(wheel).extractall(folder / "sdk")
        return f"SDK {SDK}", sdk_writer(folder / "sdk")
    except (subprocess.SubprocessError, OSError, ImportError) as error:
        print(f"The SDK is not to be had ({type(error).__name__}); its peer is a loop over protobuf messages.")
        return "protobuf loop", protobuf_writer()


def protobuf_writer() -> Write:
    """Return a writer that fills and serialises one ``aialgs.data.Record`` a row."""
    record_type = _record_type()

    def write(file: Any, images: Any, labels: Any) -> None:
        for image, label in zip(images, labels, strict=True):
            record = record_type()
            record.features["values"].float32_tensor.values.extend(image)
            record.label["values"].int32_tensor.values.extend([label])
            payload = record.SerializeToString()
            file.write(MAGIC.to_bytes(4, "little") + len(payload).to_bytes(4, "little"))
            file.write(payload + bytes(-len(payload) % 4))

    return write


def _record_type() -> Any:
    """Declare the messages of ``aialgs.data.Record`` that dense tensors need."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="record.proto", package="bench", syntax="proto2")
    for name, kind in (("Float32Tensor", kinds.TYPE_FLOAT), ("Int32Tensor", kinds.TYPE_INT32)):
        field = file.message_type.add(name=name).field.add(name="values", number=1, label=3, type=kind)
        field.options.packed = True
    value = file.message_type.add(name="Value")
    value.oneof_decl.add(name="value")
    for name, number, kind in (("float32_tensor", 2, "Float32Tensor"), ("int32_tensor", 7, "Int32Tensor")):
        value.field.add(name=name, number=number, label=1, type=11, type_name=f".bench.{kind}", oneof_index=0)
    record = file.message_type.add(name="Record")
    for name, number in (("features", 1), ("label", 2)):
        entry = record.nested_type.add(name=f"{name.capitalize()}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, label=1, type=9)
        entry.field.add(name="value", number=2, label=1, type=11, type_name=".bench.Value")
        record.field.add(name=name, number=number, label=3, type=11, type_name=f".bench.Record.{entry.name}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.Record"))


def main() -> None:
    """Print both times and their ratio; fail where the bytes differ."""
    images, labels = data(ROWS)
    ours, content = seconds(write_dense, images, labels, ROUNDS)
    print(f"{'Baton':<28}{ROWS:>7,} rows  {ours:8.3f} s  {len(content) / ours / 1e6:7.0f} MB/s")
    with tempfile.TemporaryDirectory() as folder:
        name, write = peer(Path(folder))
        # A tenth of the rows: the peer's time grows with the rows, and the whole would take it some 15 s a round.
        theirs, expected = seconds(write, images[:PEER_ROWS], labels[:PEER_ROWS], 3)
    print(f"{name:<28}{PEER_ROWS:>7,} rows  {theirs:8.3f} s  {len(expected) / theirs / 1e6:7.0f} MB/s")
    if content[: len(expected)] != expected:
        sys.exit("The bytes differ.")
    print(f"Baton writes the same bytes {theirs / PEER_ROWS / (ours / ROWS):.0f} times as fast, a row.")


if __name__ == "__main__":
    main()
