import itertools
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.bench import loop_peers
from scripts.bench.loop_peers import Missing, agreement, ratio, run, table
from scripts.bench.peers import environments, listing, measure
from scripts.bench.peers.listing import OURS, OURS_INT8, PEERS, Peer

GOOGLE = next(peer for peer in PEERS if peer.first_class)


def found(ms: float, *classes: int, cpu: float | None = None) -> dict[str, Any]:
    return {
        "mean_ms": ms,
        "cpu_ms": ms if cpu is None else cpu,
        "page_faults": 0.0,
        "peak_mb": 100,
        "classes": list(classes),
        "versions": {"numpy": "2"},
    }


def test_every_peer_has_its_file_and_its_environment() -> None:
    folder = Path(listing.__file__).parent
    for peer in PEERS:
        assert (folder / f"{peer.module}.py").is_file()
        assert not peer.environment or peer.environment in environments.names()
    assert len({peer.name for peer in PEERS}) == len(PEERS)


def test_every_requirement_is_an_exact_version() -> None:
    for name in environments.names():
        lines = (environments.REQUIREMENTS / f"{name}.txt").read_text().splitlines()
        wanted = [line for line in lines if not line.startswith("#")]
        assert wanted
        assert all("==" in line and "+" not in line and "/" not in line for line in wanted)


def test_a_ratio_is_of_runs_of_the_same_round() -> None:
    ours = [found(2, cpu=1), found(20, cpu=1), found(4, cpu=1)]
    theirs = [found(4, cpu=3), found(40, cpu=3), found(8, cpu=4)]
    assert ratio(theirs, ours) == "2.00 (3.00)"


def test_a_background_class_is_no_disagreement() -> None:
    assert agreement(OURS_INT8, found(1, 3, 4), found(1, 3, 5)) == 0.5
    assert agreement(GOOGLE, found(1, 4, 6), found(1, 3, 5)) == 1


def test_the_table_has_no_fp32_ratio_for_int8() -> None:
    rows = table({OURS: [found(4.0, 1)], OURS_INT8: [found(2.0, 1)], GOOGLE: [found(3.0, 2)]})
    cells = [[cell.strip() for cell in row.split("|")[1:-1]] for row in rows.splitlines()[2:]]
    assert [row[0] for row in cells] == ["edgekit, int8", GOOGLE.name, "edgekit"]
    assert [row[3] for row in cells] == ["", "", "1.00 (1.00)"]
    assert [row[4] for row in cells] == ["1.00 (1.00)", "1.50 (1.50)", "2.00 (2.00)"]
    assert [row[8] for row in cells] == ["100%"] * 3


def test_what_cannot_run_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(loop_peers, "HOME", tmp_path / "home")
    with pytest.raises(Missing, match=r"no environment: python -m scripts.bench.peers.env.* runti"):
        run(GOOGLE, Path("clip"), tmp_path, 1, 0)
    with pytest.raises(Missing, match=r"no model: python -m scripts.bench.peers.models DATA"):
        run(OURS, Path("clip"), tmp_path, 1, 0)
    (tmp_path / "fp32").touch()
    broken = Peer("broken", "no_such_module", "", "fp32", "fp32")
    with pytest.raises(Missing, match="failed: .*no_such_module"):
        run(broken, Path("clip"), tmp_path, 1, 0)


def test_an_environment_is_ready_until_its_requirements_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "ENVIRONMENTS", tmp_path)
    monkeypatch.setattr(environments, "REQUIREMENTS", tmp_path)
    (tmp_path / "one.txt").write_text("")  # nothing to install
    assert environments.names() == ("one",)
    assert not environments.ready("one")
    (tmp_path / "one" / "bin").mkdir(parents=True)
    (tmp_path / "one" / "bin" / "python").symlink_to(sys.executable)
    environments.make("one")
    assert environments.ready("one")
    (tmp_path / "one.txt").write_text("numpy==2.0\n")
    assert not environments.ready("one")


def test_frames_are_taken_and_counted() -> None:
    answers = itertools.count(7)
    result = measure.measured(answers, 3)
    assert result["classes"] == [7, 8, 9]
    assert result["frames"] == 3
    assert next(answers) == 10


def test_metadata_can_be_read_back() -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    from scripts.bench.peers.tflite_metadata import with_normalisation
    from targets.flatbuffer import Table

    empty = schema.ModelT()
    empty.version, empty.buffers = 3, [schema.BufferT()]
    builder = flatbuffers.Builder()
    builder.Finish(empty.Pack(builder), b"TFL3")
    made = with_normalisation(bytes(builder.Output()), [127.5], [64.0])
    model = schema.ModelT.InitFromPackedBuf(bytearray(made), 0)
    (entry,) = model.metadata
    assert (bytes(entry.name), entry.buffer) == (b"TFLITE_METADATA", 1)
    content = bytes(model.buffers[1].data)
    assert content[4:8] == b"M001"
    subgraph = next(iter(Table.root(memoryview(content)).tables(3)))
    image = next(iter(subgraph.tables(2)))
    assert bytes(image.bytes(0)) == b"image"
    unit = next(iter(image.tables(4)))
    assert unit.number(0, 1) == 1  # NormalizationOptions
