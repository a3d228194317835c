"""State a TFLite model's normalisation in it, as MediaPipe wants to read it.

MediaPipe runs a float image model only if the file carries "TFLITE_METADATA", a flatbuffer of its
own schema (`metadata_schema.fbs` in its package). The package's writer imports a module that the
package no longer has, so the tables are written here by their field numbers.
"""

from collections.abc import Sequence

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

# Numbers of fields and of union members in metadata_schema.fbs.
_IMAGE_PROPERTIES, _NORMALIZATION = 2, 1
_RGB = 1


def with_normalisation(model: bytes, mean: Sequence[float], std: Sequence[float]) -> bytes:
    """The same model, its one input said to be RGB, normalised as `(pixel - mean) / std`."""
    content = schema.ModelT.InitFromPackedBuf(bytearray(model), 0)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(_metadata(mean, std), np.uint8)
    content.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = "TFLITE_METADATA", len(content.buffers) - 1
    content.metadata = [*(content.metadata or ()), entry]
    builder = flatbuffers.Builder(len(model))
    builder.Finish(content.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _metadata(mean: Sequence[float], std: Sequence[float]) -> bytes:
    """ModelMetadata of one subgraph with one image in, one tensor out."""
    b = flatbuffers.Builder(512)
    means, stds = (b.CreateNumpyVector(np.array(v, np.float32)) for v in (mean, std))
    normalisation = _table(b, {0: means, 1: stds})
    unit = _table(b, {1: normalisation}, {0: _NORMALIZATION})
    image = _table(b, {}, {0: _RGB})
    content = _table(b, {1: image}, {0: _IMAGE_PROPERTIES})
    units, image_name, score_name = (
        _vector(b, [unit]),
        b.CreateString("image"),
        b.CreateString("score"),
    )
    pixels = _table(b, {0: image_name, 3: content, 4: units})
    logits = _table(b, {0: score_name})
    subgraph = _table(b, {2: _vector(b, [pixels]), 3: _vector(b, [logits])})
    b.Finish(_table(b, {3: _vector(b, [subgraph])}), b"M001")
    return bytes(b.Output())


def _table(b: flatbuffers.Builder, offsets: dict[int, int], small: dict[int, int] | None = None):  # type: ignore[no-untyped-def]
    """A table: field number -> offset of what it refers to, and -> value of one byte."""
    b.StartObject(max([*offsets, *(small or {})], default=-1) + 1)
    for field, offset in offsets.items():
        b.PrependUOffsetTRelativeSlot(field, offset, 0)
    for field, value in (small or {}).items():
        b.PrependUint8Slot(field, value, 0)
    return b.EndObject()


def _vector(b: flatbuffers.Builder, offsets: list[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())
