"""The plots of `report.html`: SVG, written out; colours are the page's own style sheet's.

Each takes plain values and gives an `<svg>` that scales with the page. What a point means stands in
its `<title>`, which browsers show where the pointer rests.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

from markupsafe import Markup

from edgekit.cost.layers import LayerCost
from edgekit.lower.gate.taps import LayerSnr
from edgekit.lower.report.data import Interval, Latency
from edgekit.spec import PlacedOperator

WIDTH, HEIGHT = 960.0, 250.0
LEFT, RIGHT, TOP, BOTTOM = 52.0, 12.0, 14.0, 30.0
CELL, GAP, CELLS_A_ROW = 12.0, 3.0, 64

_TAG = Markup("<{0}{1}>{2}</{0}>")
_NOTHING = Markup("")


def snr_of_layers(layers: Sequence[LayerSnr]) -> Markup:
    """A point for each layer in order of execution, dB upwards; the lowest has its name."""
    values = [layer.snr_db for layer in layers]
    bottom, top = 10 * math.floor(min(values) / 10), 10 * math.ceil((max(values) + 1) / 10)
    xs = [_x(n, len(layers)) for n in range(len(layers))]
    ys = [_y(value, bottom, top) for value in values]
    lowest = values.index(min(values))
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(xs, ys, strict=True))
    marks = [_tag("polyline", points=path, class_="line")]
    for n, (x, y, layer) in enumerate(zip(xs, ys, layers, strict=True)):
        kind = "point lowest" if n == lowest else "point"
        marks.append(_tag("circle", _title(layer), cx=x, cy=y, r=3, class_=kind))
    anchor = "start" if xs[lowest] < WIDTH / 2 else "end"
    label = f"{layers[lowest].layer}: {values[lowest]:.1f} dB"
    marks.append(_text(xs[lowest], ys[lowest] + 16, label, anchor, "name"))
    return _svg("SNR of each layer, dB", [*_scale(bottom, top, "dB"), _below("layers"), *marks])


def macs_of_layers(layers: Sequence[LayerCost]) -> Markup:
    """A bar for each layer in order of execution, millions of MACs upwards."""
    most = max(layer.macs for layer in layers) / 1e6
    top = _round_up(most)
    step = (WIDTH - LEFT - RIGHT) / len(layers)
    bars = []
    for n, layer in enumerate(layers):
        y = _y(layer.macs / 1e6, 0, top)
        said = f"{layer.name} ({layer.kind}): {layer.macs / 1e6:.2f} M"
        kind = f"bar {layer.kind.partition(' ')[0]}"
        bars.append(
            _tag("rect", _title(said), x=LEFT + n * step + step * 0.1, y=y, width=step * 0.8,
                 height=max(HEIGHT - BOTTOM - y, 0.5), class_=kind)
        )  # fmt: skip
    return _svg("MACs of each layer, millions", [*_scale(0, top, "M"), _below("layers"), *bars])


def placement_strip(operators: Sequence[PlacedOperator]) -> Markup:
    """A cell for each operator in order of execution; shades tell partitions apart."""
    cells = []
    for n, op in enumerate(operators):
        row, column = divmod(n, CELLS_A_ROW)
        if op.partition >= 0:
            kind, where = f"taken shade{op.partition % 2}", f"partition {op.partition}"
        else:
            kind, where = ("border" if op.border else "fallen"), op.reason
        cells.append(
            _tag("rect", _title(f"{op.kind} {op.name}: {where}"), x=column * (CELL + GAP),
                 y=row * (CELL + GAP), width=CELL, height=CELL, rx=2, class_=kind)
        )  # fmt: skip
    rows = math.ceil(len(operators) / CELLS_A_ROW)
    size = (CELLS_A_ROW * (CELL + GAP), rows * (CELL + GAP))
    return _svg("who runs each operator", cells, *size)


def accuracy_whisker(found: Interval) -> Markup:
    """Top-1 and its interval on a line from 0 to 100 %."""
    low, middle, high = (
        LEFT + (WIDTH - LEFT - RIGHT) * v for v in (found.low, found.top1, found.high)
    )
    marks = [_tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=22, y2=22, class_="grid")]
    for percent in range(0, 101, 10):
        x = LEFT + (WIDTH - LEFT - RIGHT) * percent / 100
        marks += [
            _tag("line", x1=x, x2=x, y1=18, y2=26, class_="grid"),
            _text(x, 44, f"{percent} %", "end" if percent == 100 else "middle"),
        ]
    marks += [
        _tag("line", x1=low, x2=high, y1=22, y2=22, class_="whisker"),
        _tag("circle", _title(f"{found.top1:.1%}"), cx=middle, cy=22, r=6, class_="point"),
    ]
    return _svg("top-1 and its 95 % interval", marks, WIDTH, 52)


def runs_of_latency(latency: Latency) -> Markup:
    """A point for each run in its order, ms upwards; lines at p50 and p95."""
    top = _round_up(max(latency.all))
    marks = []
    for name, value in (("p50", latency.p50), ("p95", latency.p95)):
        y = _y(value, 0, top)
        marks.append(_tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_=f"limit {name}"))
        marks.append(_text(WIDTH - RIGHT, y - 5, f"{name} {value:.2f} ms", "end", "name"))
    for n, ms in enumerate(latency.all):
        x, y = _x(n, len(latency.all)), _y(ms, 0, top)
        marks.append(
            _tag("circle", _title(f"run {n + 1}: {ms} ms"), cx=x, cy=y, r=3, class_="point")
        )
    return _svg("latency of each run, ms", [*_scale(0, top, "ms"), _below("runs"), *marks])


def _scale(bottom: float, top: float, unit: str) -> Iterator[Markup]:
    """Four or five lines across, with their values."""
    step = _round_up((top - bottom) / 5)
    value = bottom
    while value <= top + 1e-9:
        y = _y(value, bottom, top)
        yield _tag("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid")
        yield _text(LEFT - 8, y + 4, f"{value:g}", "end")
        value += step
    yield _text(4, 10, unit, "start")


def _below(what: str) -> Markup:
    return _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, f"{what}, in their order", "middle")


def _round_up(value: float) -> float:
    """The next of 1, 2, 2.5, 5 times a power of ten."""
    if value <= 0:
        return 1.0
    power = 10 ** math.floor(math.log10(value))
    return next(power * factor for factor in (1, 2, 2.5, 5, 10) if value <= power * factor + 1e-12)


def _x(n: int, count: int) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * (n + 0.5) / count


def _y(value: float, bottom: float, top: float) -> float:
    return TOP + (HEIGHT - TOP - BOTTOM) * (top - value) / (top - bottom)


def _svg(
    label: str, marks: Iterable[Markup], width: float = WIDTH, height: float = HEIGHT
) -> Markup:
    return _tag(
        "svg", _NOTHING.join(marks), viewBox=f"0 0 {width:g} {height:g}", role="img",
        aria_label=label,
    )  # fmt: skip


def _text(x: float, y: float, said: str, anchor: str, kind: str = "tick") -> Markup:
    return _tag("text", Markup.escape(said), x=x, y=y, text_anchor=anchor, class_=kind)


def _title(said: object) -> Markup:
    return _tag("title", Markup.escape(str(said)))


def _tag(name: str, inside: Markup = _NOTHING, /, **attributes: str | float) -> Markup:
    """An element; `text_anchor` becomes `text-anchor`, `class_` becomes `class`."""
    written = _NOTHING.join(
        Markup(' {}="{}"').format(
            key.rstrip("_").replace("_", "-"), f"{value:.1f}" if isinstance(value, float) else value
        )
        for key, value in attributes.items()
    )
    return _TAG.format(Markup(name), written, inside)
