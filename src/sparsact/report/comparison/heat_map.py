"""Density of every layer and setting, as a table with shaded cells."""

from collections.abc import Sequence
from html import escape
from itertools import takewhile

from sparsact.report.comparison.comparison_records import DensityTrace
from sparsact.report.palette import NEGATIVE

STYLE = f"""
table.heat {{ width: auto; font-size: 12px; }}
.heat th, .heat td {{ padding: 0 .3rem; border: 1px solid var(--paper); text-align: center;
                     min-width: 1.5rem; line-height: 1.5; }}
.heat thead th {{ white-space: nowrap; writing-mode: vertical-rl; rotate: 180deg;
                 text-align: left; font-weight: 400;
                 vertical-align: top; padding: .3rem 0; }}
.heat thead th:first-child {{ visibility: hidden; }}
.heat tbody th {{ position: sticky; left: 0; background: var(--paper); text-align: left;
                 font-weight: 400; max-width: 16rem; overflow: hidden; text-overflow: ellipsis; }}
.heat td, .heat td:first-child {{ text-align: center;
                                 background: rgb({NEGATIVE} /
                                     calc((var(--d) * .9 + .04) * var(--shade))); }}
.heat tr.picked td {{ font-weight: 400; }}
"""


def heat_map(traces: Sequence[DensityTrace]) -> str:
    """Layers in the order of the network from top to bottom, settings from left to right."""
    layers = list(dict.fromkeys(trace.layer for trace in traces))
    labels = list(dict.fromkeys(trace.label for trace in traces))
    last = {(trace.label, trace.layer): trace.density[-1] for trace in traces}
    prefix = common_prefix(layers)
    head = "".join(f"<th>{escape(label)}</th>" for label in labels)
    body = "".join(
        f'<tr><th title="{escape(layer)}">{escape(layer.removeprefix(prefix))}</th>'
        + "".join(_cell(last.get((label, layer)), label, layer) for label in labels)
        + "</tr>"
        for layer in layers
    )
    note = f'<p class="how">Names of layers are without {escape(prefix)}</p>' if prefix else ""
    return (
        f'{note}<div class="scroll"><table class="heat"><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def common_prefix(layers: Sequence[str]) -> str:
    """What all names begin with, up to a dot; empty for a single layer or without a dot."""
    first, last = (name.split(".")[:-1] for name in (min(layers), max(layers)))
    pairs = takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return "".join(f"{part}." for part, _ in pairs) if len(layers) > 1 else ""


def _cell(density: float | None, label: str, layer: str) -> str:
    if density is None:
        return "<td>–</td>"
    hint = escape(f"{label}, {layer}: {density:.1%}")
    return f'<td style="--d:{density:.3f}" title="{hint}">{100 * density:.0f}</td>'
