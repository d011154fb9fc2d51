"""The files of one checkpoint: `state.safetensors` with the arrays, `record.json` with the rest.

The arrays are written in the safetensors format, which any of its readers opens, in one pass that
also takes the checksums. `record.json` is one line,

    {"format": 1, "checksum": "0f3a52c1", "checkpoint": {...}, "record": {...}}

whose checksum is over every byte behind it. `checkpoint` has the step, the metrics, whether
training can go on from there, and name, dtype, shape and checksum of every array: the header of
the safetensors file follows from it, byte by byte. `record` is the caller's. So there is no byte in
the two files that can change unnoticed. Checksums are CRC-32, eight hexadecimal digits.
"""

import dataclasses
import functools
import io
import json
import os
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfplaybook._files import check_entries, decode_number, encode_number, excerpt, parse_json
from tfplaybook.runs import _safetensors as safetensors

FORMAT = 1
STATE_FILE_NAME = "state.safetensors"
RECORD_FILE_NAME = "record.json"

_REMEDY = "Move its folder away to go on without it."
_CHUNK_BYTES = 1 << 22


@dataclasses.dataclass(frozen=True)
class ArraySpec:
    """What the record says of an array: its NumPy dtype by name, its shape, its CRC-32."""

    dtype: str
    shape: tuple[int, ...]
    checksum: str

    @property
    def nbytes(self) -> int:
        """The size of the array in bytes."""
        return safetensors.size_in_bytes(self.dtype, self.shape)


@dataclasses.dataclass(frozen=True)
class CheckpointRecord:
    """What `record.json` says; `arrays` is in the order of the data."""

    step: int
    metrics: dict[str, float]
    resumable: bool
    arrays: dict[str, ArraySpec]
    record: dict[str, Any]


def write_checkpoint(
    folder: Path,
    *,
    step: int,
    metrics: Mapping[str, float],
    resumable: bool,
    arrays: Mapping[str, np.ndarray],
    record: str,
    on_phase: Callable[[str], None],
) -> None:
    """Write both files into `folder`, which exists and is empty, down to the disk.

    `record` is the JSON text of the caller's object. `on_phase` hears `"written"`, when all was
    given to the operating system, and `"synced"`, when it is on the disk.
    """
    names = safetensors.in_order(arrays)
    state_path, record_path = folder / STATE_FILE_NAME, folder / RECORD_FILE_NAME
    with state_path.open("xb") as state, record_path.open("xb") as record_file:
        state.write(
            safetensors.encode_header({n: (arrays[n].dtype.name, arrays[n].shape) for n in names})
        )
        specs = {}
        for name in names:
            checksum = _write_array(state, arrays[name])
            specs[name] = ArraySpec(arrays[name].dtype.name, arrays[name].shape, checksum)
        checkpoint = {
            "step": step,
            "metrics": {name: encode_number(value) for name, value in metrics.items()},
            "resumable": resumable,
            "arrays": {name: dataclasses.asdict(spec) for name, spec in specs.items()},
        }
        record_file.write(_sealed(f'"checkpoint": {json.dumps(checkpoint)}, "record": {record}}}'))
        state.flush()
        record_file.flush()
        on_phase("written")
        os.fsync(state.fileno())
        os.fsync(record_file.fileno())
    sync_directory(folder)
    on_phase("synced")


def read_record(folder: Path) -> CheckpointRecord:
    """Read `record.json`, and verify it.

    Raises:
        ValueError: The file is missing, damaged, of a newer format, or of another step than the
            folder's name says.
    """
    path = folder / RECORD_FILE_NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise ValueError(f"{folder} is damaged: it has no {path.name}. {_REMEDY}") from error
    check = functools.partial(_check_record, data, folder.name)
    content = parse_json(path, data, newest_format=FORMAT, check=check, remedy=_REMEDY)
    checkpoint = content["checkpoint"]
    return CheckpointRecord(
        step=checkpoint["step"],
        metrics={name: float(value) for name, value in checkpoint["metrics"].items()},
        resumable=checkpoint["resumable"],
        arrays={
            name: ArraySpec(spec["dtype"], tuple(spec["shape"]), spec["checksum"])
            for name, spec in checkpoint["arrays"].items()
        },
        record=content["record"],
    )


def read_arrays(folder: Path, specs: Mapping[str, ArraySpec]) -> dict[str, np.ndarray]:
    """Read `state.safetensors`, and verify each byte of it against the record.

    Raises:
        ValueError: The file is missing, or it is not as the record says.
    """
    path = folder / STATE_FILE_NAME
    try:
        with path.open("rb") as file:
            return _read_verified(file, specs)
    except FileNotFoundError as error:
        raise ValueError(f"{folder} is damaged: it has no {path.name}. {_REMEDY}") from error
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error} {_REMEDY}") from error


def folder_name(step: int) -> str:
    """Return the name of the folder of the checkpoint taken at `step`."""
    return f"step_{step:010d}"


def sync_directory(directory: Path) -> None:
    """Put on the disk which names the directory has."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write_array(file: io.BufferedWriter, array: np.ndarray) -> str:
    # Chunks that stay in the processor's cache between the checksum and the write.
    data = safetensors.bytes_of(np.asarray(array, order="C"))
    checksum = 0
    for start in range(0, data.nbytes, _CHUNK_BYTES):
        chunk = data[start : start + _CHUNK_BYTES]
        checksum = zlib.crc32(chunk, checksum)
        file.write(chunk)
    return f"{checksum:08x}"


def _read_verified(
    file: io.BufferedReader, specs: Mapping[str, ArraySpec]
) -> dict[str, np.ndarray]:
    header = safetensors.encode_header(
        {name: (spec.dtype, spec.shape) for name, spec in specs.items()}
    )
    expected = len(header) + sum(spec.nbytes for spec in specs.values())
    size = os.fstat(file.fileno()).st_size
    if file.read(len(header)) != header:
        raise ValueError(_what_differs(file, specs))
    if size != expected:
        raise ValueError(f"it has {size} bytes, and the record says {expected}.")
    arrays = {}
    for name, spec in specs.items():
        array = np.empty(spec.shape, safetensors.dtype_of(spec.dtype))
        data = safetensors.bytes_of(array)
        checksum = 0
        for start in range(0, data.nbytes, _CHUNK_BYTES):
            chunk = data[start : start + _CHUNK_BYTES]
            file.readinto(chunk)
            checksum = zlib.crc32(chunk, checksum)
        if f"{checksum:08x}" != spec.checksum:
            raise ValueError(f"the array {name!r} does not match its checksum.")
        arrays[name] = array
    return arrays


def _what_differs(file: io.BufferedReader, specs: Mapping[str, ArraySpec]) -> str:
    """Return how the header of the file is not the one that the record asks for."""
    file.seek(0)
    try:
        names = safetensors.read_header(file)[0].keys()
    except ValueError as error:
        return str(error)
    if names == specs.keys():
        return "its header does not match the record."
    return (
        f"its arrays are not those of the record. Missing: {excerpt(sorted(specs.keys() - names))}."
        f" Unexpected: {excerpt(sorted(names - specs.keys()))}."
    )


def _sealed(text: str) -> bytes:
    """Return the bytes of a record: `text` behind format and checksum."""
    data = text.encode() + b"\n"
    return b'{"format": %d, "checksum": "%08x", ' % (FORMAT, zlib.crc32(data)) + data


_SEAL_BYTES = len(_sealed("")) - 1


def _check_record(data: bytes, folder: str, content: dict[str, Any]) -> None:
    """Raise `ValueError` unless `content`, read from `data`, is a record of that folder."""
    if _sealed(data[_SEAL_BYTES:-1].decode()) != data:
        raise ValueError("it does not match its checksum.")
    check_entries(content, {"checkpoint": dict, "record": dict})
    checkpoint = content["checkpoint"]
    check_entries(checkpoint, {"step": int, "metrics": dict, "arrays": dict})
    if not isinstance(checkpoint.get("resumable"), bool):
        raise ValueError("`resumable` must be true or false.")
    for name, value in checkpoint["metrics"].items():
        if decode_number(value) is None:
            raise ValueError(f"the metric {name!r} must be a number. Received: {excerpt(value)}.")
    for name, spec in checkpoint["arrays"].items():
        _check_spec(name, spec)
    if folder != folder_name(checkpoint["step"]):
        raise ValueError(f"it is of step {checkpoint['step']}, and its folder is {folder}.")


def _check_spec(name: str, spec: Any) -> None:
    where = f" of the array {name!r}"
    if not isinstance(spec, dict):
        raise ValueError(f"the array {name!r} must be an object. Received: {excerpt(spec)}.")
    check_entries(spec, {"dtype": str, "shape": list, "checksum": str}, where=where)
    if spec["dtype"] not in safetensors.CODES:
        raise ValueError(f"`dtype`{where} is unknown: {excerpt(spec['dtype'])}.")
    for length in spec["shape"]:
        if not isinstance(length, int) or isinstance(length, bool) or length < 0:
            raise ValueError(f"`shape`{where} must be lengths. Received: {excerpt(spec['shape'])}.")
