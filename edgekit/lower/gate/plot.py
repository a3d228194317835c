"""The SNR of every layer of a hop, drawn: one HTML file with an inline SVG, and nothing fetched."""

from collections.abc import Iterable, Sequence
from html import escape

from edgekit.lower.gate.parity import HopError
from edgekit.lower.gate.taps import LayerSnr, first_divergence

ROW, NAMES, BARS, FIGURES = 16, 330, 520, 170
"""Pixels: the height of a layer's row, and the widths of its name, its bar and its figures."""
MOST = 120.0
"""dB that fill the width; more than that is as good as equal."""

_STYLE = (
    "body{font:14px system-ui,sans-serif;margin:2em;max-width:70em;color:#222;background:#fff}"
    "svg{font:11px ui-monospace,monospace}svg text{fill:#222}"
    ".holds{fill:#4c78a8}.breaks{fill:#c0392b}.limit{stroke:#c0392b;stroke-dasharray:4 3}"
    ".grid{stroke:#ddd}"
)


def snr_svg(layers: Sequence[LayerSnr], limit_db: float) -> str:
    """A bar for each layer, in order of execution, from the top; red where it is under the limit.

    Args:
        layers: as `taps.layer_snr` gives them.
        limit_db: what the hop is held to, drawn as a line.
    """
    height = ROW * (len(layers) + 1)
    width = NAMES + BARS + FIGURES
    rows = [
        *_scale(height, limit_db),
        *(r for n, x in enumerate(layers) for r in _row(n, x, limit_db)),
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" role="img" aria-label="SNR of each layer, dB">'
        f"{''.join(rows)}</svg>"
    )


def page(breach: HopError) -> str:
    """A breached hop as one HTML page: what was said, and every layer of it."""
    first = first_divergence(breach.layers, breach.snr_db)
    said = f"The first layer under it is <b>{escape(first.layer)}</b>." if first else ""
    title = escape(f"Parity gate: {breach.hop}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style><h1>{title}</h1><p>{escape(str(breach))}</p>"
        f"<p>SNR of each layer after the hop against the same layer before it, dB, in order of "
        f"execution, on the images that differ most. The line is at {breach.snr_db:.0f} dB. {said}"
        f"</p>{snr_svg(breach.layers, breach.snr_db)}</html>\n"
    )


def _scale(height: int, limit_db: float) -> Iterable[str]:
    for db in range(0, int(MOST) + 1, 20):
        x = NAMES + _length(db)
        yield f'<line class="grid" x1="{x}" y1="{ROW}" x2="{x}" y2="{height}"/>'
        yield f'<text x="{x}" y="{ROW - 5}" text-anchor="middle">{db}</text>'
    x = NAMES + _length(limit_db)
    yield f'<line class="limit" x1="{x}" y1="{ROW}" x2="{x}" y2="{height}"/>'


def _row(n: int, layer: LayerSnr, limit_db: float) -> Iterable[str]:
    top, kind = ROW * (n + 1), "holds" if layer.snr_db >= limit_db else "breaks"
    shown = layer.layer if len(layer.layer) <= 48 else f"…{layer.layer[-47:]}"
    baseline = top + ROW - 4
    yield f'<text x="{NAMES - 6}" y="{baseline}" text-anchor="end">{escape(shown)}</text>'
    yield (
        f'<rect class="{kind}" x="{NAMES}" y="{top + 3}" height="{ROW - 6}" '
        f'width="{max(_length(layer.snr_db), 2)}"><title>{escape(str(layer))}</title></rect>'
    )
    said = f"{layer.snr_db:.1f} dB, {layer.max_abs_error:.3g}"
    yield f'<text x="{NAMES + BARS + 6}" y="{baseline}">{said}</text>'


def _length(db: float) -> int:
    return round(BARS * min(max(db, 0.0), MOST) / MOST)
