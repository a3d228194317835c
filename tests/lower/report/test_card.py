"""The report of a made-up bundle: the page, the data, and what `--no-fallback` says."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from torch import nn
from torch.export import ExportedProgram

from edgekit.bundle import PAGE, REPORT, Manifest
from edgekit.cost.layers import Cost, LayerCost
from edgekit.cost.memory import Peak
from edgekit.errors import CheckFailed
from edgekit.lower.gate.taps import LayerSnr
from edgekit.lower.network import Network
from edgekit.lower.plan import Plan, Request, make_plan
from edgekit.lower.report import card as report
from edgekit.lower.report.data import (
    Explained,
    Latency,
    Measured,
    Report,
    as_json,
    gather,
    refuse_fallback,
)
from edgekit.lower.report.fusion import Fusion, fusion
from edgekit.lower.report.page import page
from edgekit.spec import PlacedOperator, Placement

HOSTILE = '<img src=x onerror="alert(1)">'
PLACEMENT = Placement(
    accelerator="XNNPACK",
    basis="made up",
    operators=(
        PlacedOperator("pixels", "CAST", -1, "no CAST", border=True),
        PlacedOperator("first", "CONV_2D", 0),
        PlacedOperator(HOSTILE, "SIGN", -1, "XNNPACK has no SIGN"),
        PlacedOperator("second", "CONV_2D", 1),
    ),
    partitions=2,
    crossing_bytes=12345,
)
LAYER = LayerCost("features.0", "conv 3x3 /2", 7_000_000, 5000, (1, 8, 4, 4))
EXPLAINED = Explained(
    model_bytes=4_005_936,
    cost=Cost(7_000_000, 5000, (LAYER,)),
    peak=Peak(6_000_000, "features.0 (conv2d)"),
    fusion=Fusion(layers=2, batch_norms=2, folded=2, activations=3, fused=2, whole=1),
    operators={"CONV_2D": 2, "CAST": 1, "SIGN": 1},
    placement=PLACEMENT,
    unplaced="",
)
MEASURED = Measured(
    built="2026-11-20T17:00:00+00:00",
    build_seconds=20.0,
    machine="Linux x86_64, Python 3.11",
    latency_ms=Latency(3.2, 3.9, 3, (3.2, 3.9, 3.1)),
    runtime=("LiteRT: XNNPACK runs 2 of 4 operators",),
)
LAYERS = {
    "eager -> folded": [LayerSnr("features.0", 200.0, 0.0)],
    "exported -> quantised": [
        LayerSnr("features.0", 41.0, 0.01),
        LayerSnr(HOSTILE, 17.5, float("inf")),
        LayerSnr("features.2", 30.0, 0.2),
    ],
}


@pytest.fixture
def found(manifest: Manifest) -> Report:
    return gather(manifest, EXPLAINED, MEASURED, LAYERS)


class Reader(HTMLParser):
    """Tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_says_all_of_it(found: Report) -> None:
    said = " ".join(Reader(page(found)).text.split())
    for text in (
        "fake for linux",
        "proven over 1 hops",
        "1 operators fall back",
        "50.0 % 95 %: 23.7 to 76.3, 10 images",
        "3.20 ms",
        "4.01 MB",
        "7.0 M",
        "2 / 4 operators, in 2 partitions",
        "12,345 bytes cross in one run",
        "XNNPACK has no SIGN",
        "LiteRT: XNNPACK runs 2 of 4 operators",
        "eager -> folded: every layer gives the same numbers.",
        "SNR of each layer, exported -> quantised",
        "of 3; the other 1 are operators of their own",
        "ten made-up images",
        "the model is made up",
    ):
        assert text in said


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(found: Report) -> None:
    text = page(found)
    tags = Reader(text).tags
    assert {tag for tag, _ in tags}.isdisjoint(
        {"script", "link", "img", "iframe", "object", "base"}
    )
    for _, attributes in tags:
        assert attributes.keys().isdisjoint({"src", "href", "onload", "onerror", "onclick"})
    assert "url(" not in text
    assert "@import" not in text
    policy = next(a["content"] for tag, a in tags if "http-equiv" in a)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"
    assert "prefers-color-scheme: dark" in text


def test_names_are_text_and_not_markup(found: Report) -> None:
    hostile = replace(found, name=HOSTILE, notes=(HOSTILE,), tools={"edgekit": HOSTILE})
    text = page(hostile)
    assert "<img" not in text
    assert text.count("&lt;img src=x") >= 6


def test_the_plots_are_svg_and_stay_inside_their_frame(found: Report) -> None:
    plots = re.findall(r"<svg.*?</svg>", page(found), re.DOTALL)
    assert len(plots) == 5  # layers, accuracy, placement, MACs, latency
    for plot in plots:
        drawn = ElementTree.fromstring(plot)
        _, _, width, height = map(float, drawn.attrib["viewBox"].split())
        assert drawn.attrib["aria-label"]
        for mark in drawn.iter():
            for key, limit in (("x", width), ("cx", width), ("y", height), ("cy", height)):
                assert 0 <= float(mark.attrib.get(key, 0)) <= limit


def test_a_page_without_placement_accuracy_and_operators(found: Report) -> None:
    explained = replace(
        EXPLAINED, placement=None, unplaced="nobody knows", operators={}, cost=Cost(0, 0, ())
    )
    text = page(replace(found, explained=explained, accuracy=None, layers={}))
    assert "Not known: nobody knows." in text
    assert "Top-1" not in text
    assert "None" not in text


def test_the_data_is_json_without_infinity(found: Report) -> None:
    data = json.loads(as_json(found), parse_constant=pytest.fail)
    assert data["latency_ms"]["p50"] == 3.2
    assert data["accuracy"]["images"] == 10
    assert data["placement"]["operators"][2]["reason"] == "XNNPACK has no SIGN"
    assert data["layers"]["exported -> quantised"][1] == {
        "layer": HOSTILE, "snr_db": 17.5, "max_abs_error": None,
    }  # fmt: skip
    assert data["cost"]["macs"] == 7_000_000


def test_three_files_are_written(manifest: Manifest, tmp_path: Path) -> None:
    report.write(tmp_path, manifest, EXPLAINED, MEASURED, LAYERS)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", REPORT, PAGE}
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    for text in (
        "- XNNPACK takes 2 of 4 operators, in 2 partitions; 12,345 bytes cross in one run",
        "- at the border, as it must be: CAST",
        "- falls back: SIGN: XNNPACK has no SIGN",
        "- 2 of 2 batch norms are folded into weights",
        "95 % interval 23.7% to 76.3%",
    ):
        assert text in card
    assert "3.2" not in card.replace("0.5", ""), "what depends on the day is not in the card"


@pytest.fixture
def plan() -> Plan:
    return make_plan(Request("linux"))


def test_no_fallback_names_operators_and_the_way_out(plan: Plan) -> None:
    with pytest.raises(CheckFailed) as caught:
        refuse_fallback(EXPLAINED, plan)
    for text in (
        "XNNPACK refuses 1 of 4 operators: SIGN",
        "XNNPACK has no SIGN",
        "try another --precision or --backend",
        "no bundle was written",
    ):
        assert text in str(caught.value)


def test_no_fallback_takes_what_stays_and_refuses_what_is_unknown(plan: Plan) -> None:
    taken = tuple(op for op in PLACEMENT.operators if op.kind != "SIGN")
    refuse_fallback(replace(EXPLAINED, placement=replace(PLACEMENT, operators=taken)), plan)
    with pytest.raises(CheckFailed, match="it cannot be told what falls back: nobody knows"):
        refuse_fallback(replace(EXPLAINED, placement=None, unplaced="nobody knows"), plan)


def test_fusion_is_counted(
    mixed: Network, mixed_unfolded: nn.Module, program: ExportedProgram,
    make_mixed: Callable[[type[nn.Module]], nn.Module],
) -> None:  # fmt: skip
    trained = replace(mixed, module=mixed_unfolded)
    # Seven units of convolution and batch norm; one of them, `project`, has no activation.
    assert fusion(trained, mixed.module, program) == Fusion(
        layers=9, batch_norms=7, folded=7, activations=6, fused=6, whole=6
    )
    stored = fusion(mixed, mixed.module, program)
    assert (stored.batch_norms, stored.folded, stored.whole, stored.fused) == (0, 0, 0, 6)
