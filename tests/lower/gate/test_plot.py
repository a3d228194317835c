import re
from xml.etree import ElementTree

from edgekit.lower.gate import plot
from edgekit.lower.gate.parity import HopError
from edgekit.lower.gate.taps import LayerSnr

LAYERS = (
    LayerSnr("stem <0> (conv)", 60.0, 0.001),
    LayerSnr("head (linear)", -200.0, float("inf")),
)


def test_every_layer_is_a_bar_and_those_under_the_limit_are_red() -> None:
    svg = ElementTree.fromstring(plot.snr_svg(LAYERS, 30.0))
    bars = [x for x in svg.iter() if x.tag.endswith("rect")]
    assert [bar.get("class") for bar in bars] == ["holds", "breaks"]
    assert int(bars[0].get("width") or 0) == plot.BARS // 2
    texts = [x.text or "" for x in svg.iter() if x.tag.endswith("text")]
    assert "stem <0> (conv)" in texts
    assert "-200.0 dB, inf" in texts


def test_no_layers_are_no_bars() -> None:
    assert "<rect" not in plot.snr_svg((), 30.0)


def test_the_page_says_it_all_and_fetches_nothing() -> None:
    page = plot.page(HopError("it <fails>", "a -> b", LAYERS, 30.0))
    assert "it &lt;fails&gt;" in page
    assert "Parity gate: a -&gt; b" in page
    assert "<b>head (linear)</b>" in page
    assert not re.search(r"<script|<link|<img|src=|@import|href=", page)
