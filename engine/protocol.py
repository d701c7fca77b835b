"""Frames between the studio and the engine: a JSON header and raw bytes for arrays.

A frame is 16 bytes ``magic, header length (u32), payload length (u64)`` in little-endian order,
the header in UTF-8 JSON, then the payload: the arrays one after the other. Nothing on the stream is
ever unpickled. Torch-free and Qt-free; works on any byte stream, a pipe or ssh.

Messages, by the header's ``type``:

- ``request``: ``id``, ``method``, ``params``; the studio asks.
- ``reply``: ``id`` and ``result``, or ``error`` with ``message`` and ``bad_input``.
- ``event``: ``job`` and ``event`` (see `events`); unasked, while a job runs.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from typing import Any

import numpy as np

VERSION = 1
MAGIC = b"SCTR"
_HEAD = struct.Struct("<4sIQ")
_MAX_HEADER = 256 << 20
_MAX_PAYLOAD = 1 << 30
_DTYPES = {"uint8", "float32", "int64"}


class ProtocolError(Exception):
    """The stream holds something that is no frame of this protocol."""


@dataclass
class Message:
    """One message: plain values in `header`, arrays by name beside them."""

    header: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(default_factory=dict)


def encode(message: Message) -> bytes:
    """The frame of a message. Arrays must be uint8, float32 or int64."""
    table, parts = [], []
    for name, array in message.arrays.items():
        if array.dtype.name not in _DTYPES:
            raise ProtocolError(f"array {name} has dtype {array.dtype}, not one of {_DTYPES}")
        data = np.ascontiguousarray(array)
        table.append([name, data.dtype.name, list(data.shape)])
        parts.append(data.tobytes())
    header = json.dumps({**message.header, "arrays": table}, allow_nan=False).encode()
    payload = b"".join(parts)
    return _HEAD.pack(MAGIC, len(header), len(payload)) + header + payload


class Decoder:
    """Turns bytes as they come into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Take bytes from the stream; return the messages that are now whole.

        Raises ProtocolError if the stream is not ours or a frame is larger than allowed.
        """
        self._buffer += data
        messages = []
        while len(self._buffer) >= _HEAD.size:
            magic, header, payload = _HEAD.unpack_from(self._buffer)
            if magic != MAGIC or header > _MAX_HEADER or payload > _MAX_PAYLOAD:
                start = bytes(self._buffer[:40])
                raise ProtocolError(f"not a Secateur engine's stream: it starts with {start!r}")
            end = _HEAD.size + header + payload
            if len(self._buffer) < end:
                break
            messages.append(_decode(bytes(self._buffer[_HEAD.size : end]), header))
            del self._buffer[:end]
        return messages


def _decode(body: bytes, header_length: int) -> Message:
    try:
        header = json.loads(body[:header_length])
        table = header.pop("arrays")
        arrays, offset = {}, header_length
        for name, dtype, shape in table:
            if dtype not in _DTYPES:
                raise ProtocolError(f"array {name} has dtype {dtype}")
            count = int(np.prod(shape, dtype=np.int64))
            array = np.frombuffer(body, dtype=dtype, count=count, offset=offset)
            arrays[name] = array.reshape(shape)
            offset += array.nbytes
    except (ValueError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a frame is damaged: {error}") from error
    return Message(header, arrays)
