"""Arrays with a few strings in one file of the safetensors format, written whole or not at all.

The strings are in its `__metadata__`, and as `crc32` the checksum of the data behind the header.
"""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tfplaybook._files import REMEDY, replace_file
from tfplaybook.runs import _safetensors as safetensors

_CHECKSUM = "crc32"
_DTYPES = {code: name for name, code in safetensors.CODES.items()}


def replace_arrays(
    path: Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]
) -> None:
    """Write the file so that `path` holds either the old or the new content, never a part.

    A dtype that NumPy does not have, such as bfloat16, is written as float32.

    Raises:
        TypeError: An array is none, or of a dtype that safetensors does not have.
        OSError: The file could not be written.
    """
    plain = {name: _plain(array) for name, array in arrays.items()}
    safetensors.check_arrays(plain)
    ordered = {name: plain[name] for name in safetensors.in_order(plain)}
    checksum = 0
    for array in ordered.values():
        checksum = zlib.crc32(safetensors.bytes_of(array), checksum)
    header = safetensors.encode_header(
        {name: (array.dtype.name, array.shape) for name, array in ordered.items()},
        {**metadata, _CHECKSUM: f"{checksum:08x}"},
    )
    replace_file(path, [header, *map(safetensors.bytes_of, ordered.values())])


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays and the strings of a file, verified.

    Raises:
        ValueError: The file is damaged, or `replace_arrays` did not write it.
        FileNotFoundError: There is no such file.
    """
    with path.open("rb") as file:
        try:
            entries, metadata = safetensors.read_header(file)
            return _arrays(entries, file.read(), metadata.pop(_CHECKSUM)), metadata
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged: {error} {REMEDY}") from error


def _arrays(entries: Mapping[str, Any], content: bytes, checksum: str) -> dict[str, np.ndarray]:
    if f"{zlib.crc32(content):08x}" != checksum:
        raise ValueError("its data does not match its checksum.")
    arrays = {}
    for name, entry in entries.items():
        dtype, shape = _DTYPES[entry["dtype"]], tuple(entry["shape"])
        start, end = entry["data_offsets"]
        if not 0 <= start <= end <= len(content) or end - start != safetensors.size_in_bytes(
            dtype, shape
        ):
            raise ValueError(f"the array {name!r} does not fit its shape.")
        data = np.frombuffer(content[start:end], safetensors.dtype_of(dtype))
        arrays[name] = data.reshape(shape).copy()
    return arrays


def _plain(array: np.ndarray) -> np.ndarray:
    array = np.ascontiguousarray(array) if array.ndim else array
    return array if array.dtype.isbuiltin == 1 else array.astype("float32")
