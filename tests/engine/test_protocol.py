"""Frames survive any cut of the stream, and nothing that is no frame is taken for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from secateur.engine import events
from secateur.engine.protocol import Decoder, Message, ProtocolError, encode

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@st.composite
def messages(draw: st.DrawFn) -> Message:
    arrays = {}
    for name in draw(st.lists(st.text(max_size=4), unique=True, max_size=3)):
        shape = draw(st.lists(st.integers(0, 4), max_size=3))
        dtype = draw(st.sampled_from(["uint8", "float32", "int64"]))
        arrays[name] = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    return Message({"type": "reply", "result": draw(VALUES)}, arrays)


@given(st.lists(messages(), max_size=3), st.integers(1, 50))
def test_any_cut_of_the_stream_gives_the_messages_back(sent: list[Message], step: int) -> None:
    stream = b"".join(encode(message) for message in sent)
    decoder = Decoder()
    received = []
    for start in range(0, len(stream), step):
        received += decoder.feed(stream[start : start + step])
    assert [m.header for m in received] == [m.header for m in sent]
    for got, was in zip(received, sent, strict=True):
        assert got.arrays.keys() == was.arrays.keys()
        for name, array in was.arrays.items():
            assert got.arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(got.arrays[name], array)


@pytest.mark.parametrize("stream", [b"Traceback (most recent call last)", b"SCTR" + b"\xff" * 40])
def test_what_is_no_frame_is_refused(stream: bytes) -> None:
    with pytest.raises(ProtocolError):
        Decoder().feed(stream)


def test_a_damaged_header_is_refused() -> None:
    frame = bytearray(encode(Message({"type": "reply"})))
    frame[16] = 0xFF
    with pytest.raises(ProtocolError, match="damaged"):
        Decoder().feed(bytes(frame))


def test_other_dtypes_do_not_cross() -> None:
    with pytest.raises(ProtocolError, match="float64"):
        encode(Message({}, {"x": np.zeros(2)}))


def test_every_event_reads_back() -> None:
    samples: list[events.Event] = [
        events.Started("a", 3), events.Progress(1, 2, "x", 0.5), events.LayerDone("p", {"a": 1}),
        events.Metric(3, {"loss": 0.5}), events.MaskChanged(1, {"p": 0.5}, 3, 4), events.Log("x"),
        events.Failed("m", "d", True, False), events.Cancelled(), events.Finished({"r": 1}),
    ]  # fmt: skip
    assert {e.kind for e in samples} == set(events.KINDS)
    for event in samples:
        assert events.from_json(event.to_json()) == event
