"""Dashboards of latents in plain HTML, so that a page can hold many."""

import unicodedata
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise

from sparsact.report.autoencoder.autoencoder_records import Bars, Context, Latent, LatentGroup
from sparsact.report.autoencoder.latent_search import SEARCH_BOX
from sparsact.report.palette import NEGATIVE, POSITIVE

STYLE = f"""
div.scroll td:first-child {{ white-space: normal; }}
nav.latents ul {{ display: flex; flex-wrap: wrap; gap: .2rem .5rem; list-style: none; padding: 0;
                 margin: .2rem 0 .8rem; font-variant-numeric: tabular-nums; }}
a {{ color: var(--c0); }}
:focus-visible {{ outline: 3px solid var(--c0); outline-offset: 2px; }}
article {{ border-top: 1px solid var(--strong-line); padding: .6rem 0 1rem;
          scroll-margin-top: .5rem; }}
article > header {{ display: flex; justify-content: space-between; align-items: baseline;
                   flex-wrap: wrap; gap: .3rem 1rem; }}
article h3 {{ margin: 0; }}
article > div {{ display: grid; gap: .5rem 2rem; grid-template-columns: minmax(0, 1fr); }}
@media (min-width: 52rem) {{ article > div {{ grid-template-columns: 19rem minmax(0, 1fr); }} }}
article:target h3 {{ color: var(--front); }}
dl {{ display: grid; grid-template-columns: auto 1fr; gap: 0 .8rem; margin: 0; }}
dt {{ color: var(--muted); }}
dd {{ margin: 0; font-variant-numeric: tabular-nums; }}
p.near {{ margin: .3rem 0; color: var(--muted); font-variant-numeric: tabular-nums; }}
svg.bars {{ width: 100%; height: 5rem; display: block; margin-top: .5rem; fill: var(--ink); }}
p.scale {{ display: flex; justify-content: space-between; margin: 0; color: var(--muted);
          font-size: .85em; font-variant-numeric: tabular-nums; }}
ol.contexts {{ list-style: none; margin: 0; padding: 0; }}
ol.contexts li {{ display: grid; grid-template-columns: 4rem minmax(0, 1fr); gap: .6rem;
                 padding: .15rem 0; border-bottom: 1px solid var(--line); }}
ol.contexts li > span {{ color: var(--muted); text-align: right;
                        font-variant-numeric: tabular-nums; }}
ol.contexts p {{ margin: 0; white-space: pre-wrap; overflow-wrap: anywhere;
                unicode-bidi: isolate; }}
ol.contexts p span {{ background: rgb({POSITIVE} / calc(var(--a) * var(--shade))); }}
ol.contexts p span.minus {{ background: rgb({NEGATIVE} / calc(var(--a) * var(--shade))); }}
ol.contexts mark {{ color: inherit; background: rgb({POSITIVE} / calc(var(--a) * var(--shade)));
                   font-weight: 700;
                   box-shadow: 0 2px var(--front); }}
ol.contexts mark.minus {{ background: rgb({NEGATIVE} / calc(var(--a) * var(--shade))); }}
ol.contexts i {{ color: var(--faint); font-style: normal; }}
h4 {{ margin: .5rem 0 .1rem; font-size: .9em; font-weight: 600; color: var(--muted); }}
p.tokens {{ margin: .2rem 0; overflow-wrap: anywhere; }}
p.tokens code {{ background: rgb({POSITIVE} / .25); padding: 0 .25em; border-radius: .2em;
                white-space: pre-wrap; }}
p.tokens.minus code {{ background: rgb({NEGATIVE} / .25); }}
p.silent {{ color: var(--front); }}
"""

VISIBLE = {" ": "·", "\n": "↵", "\t": "⇥", "\r": "␍"}
"""Visible signs for white space."""

DIRECTION_CLASSES = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Classes of characters that change the writing direction of the text after them."""


def contents(groups: Sequence[LatentGroup]) -> str:
    """Links to every dashboard."""
    lists = "".join(
        f"<h3>{escape(group.title)}</h3><ul>"
        + "".join(f"<li>{_link(latent.index)}</li>" for latent in group.latents)
        + "</ul>"
        for group in groups
    )
    return (
        f'<nav class="latents" id="latents" aria-label="latents"><h2>Latents</h2>{SEARCH_BOX}'
        f"{lists}</nav>"
    )


def dashboards(groups: Sequence[LatentGroup]) -> Iterator[str]:
    """A section for each group, an article for each latent."""
    order = [latent.index for group in groups for latent in group.latents]
    shown = frozenset(order)
    following = dict(pairwise(order))
    for group in groups:
        yield f"<section><h2>{escape(group.title)}</h2>"
        for latent in group.latents:
            yield _dashboard(latent, shown, following.get(latent.index))
        yield "</section>"


def _dashboard(latent: Latent, shown: frozenset[int], following: int | None) -> str:
    next_link = "" if following is None else f' · <a href="#latent-{following}">next</a>'
    links = f'<nav aria-label="latent {latent.index}"><a href="#latents">all</a>{next_link}</nav>'
    return (
        f'<article id="latent-{latent.index}"><header><h3>Latent {latent.index}</h3>{links}'
        f"</header><div><div>{_numbers(latent, shown)}{_histogram(latent.histogram)}"
        f"{_tokens(latent)}</div>"
        f"<div>{_contexts(latent)}</div></div></article>"
    )


def _link(index: int) -> str:
    return f'<a href="#latent-{index}">{index}</a>'


def _numbers(latent: Latent, shown: frozenset[int]) -> str:
    neighbours = ", ".join(
        f"{_link(index) if index in shown else index} ({cosine:.2f})"
        for index, cosine in latent.neighbours
    )
    rows = [("density", f"{latent.density:.3%} ({latent.fired} inputs)")]
    if latent.mean is not None and latent.peak is not None:
        rows += [("mean when active", f"{latent.mean:.3g}"), ("largest", f"{latent.peak:.3g}")]
    items = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows)
    other = ""
    if latent.counterpart is not None:
        index, cosine = latent.counterpart
        other = f"<p class=near>nearest in the other autoencoder: {index} ({cosine:.2f})</p>"
    return (
        f"<dl>{items}</dl><p class=near>nearest by cosine of the decoder: {neighbours or '–'}</p>"
        f"{other}"
    )


def _tokens(latent: Latent) -> str:
    """The tokens that the direction raises and lowers through the head of the model."""
    parts = []
    for title, sign, tokens in (
        ("Promotes", "", latent.promoted),
        ("Suppresses", " minus", latent.suppressed),
    ):
        if tokens:
            items = " ".join(
                f'<code title="{value:.3g}">{_visible(text)}</code>' for text, value in tokens
            )
            parts.append(f'<h4>{title}</h4><p class="tokens{sign}">{items}</p>')
    return "".join(parts)


def _histogram(bars: Bars | None) -> str:
    """The bars of a histogram as a drawing that fills its box."""
    if bars is None:
        return ""
    tallest = max(bars.counts)
    shape = "".join(  # one shape, because a page has hundreds of histograms
        f"M{i} 100V{100 - 100 * count / tallest:.4g}h.9V100z"
        for i, count in enumerate(bars.counts)
        if count
    )
    label = f"histogram of the {sum(bars.counts)} activations that are not zero, {tallest} at most"
    return (
        f'<svg class="bars" viewBox="0 0 {len(bars.counts)} 100" preserveAspectRatio="none" '
        f'role="img" aria-label="{label}"><path d="{shape}"/></svg>'
        f'<p class="scale"><span>{bars.edges[0]:.3g}</span><span>activation</span>'
        f"<span>{bars.edges[-1]:.3g}</span></p>"
    )


def _contexts(latent: Latent) -> str:
    if not latent.fired:
        return '<p class="silent">Silent: it never fired in this text.</p>'
    largest = abs(latent.peak or 1.0)
    parts = [_list(latent.contexts, largest)]
    if latent.quantiles:
        parts += ["<h4>At falling quantiles of its activations</h4>"]
        parts += [_list(latent.quantiles, largest)]
    return "".join(parts)


def _list(contexts: Sequence[Context], largest: float) -> str:
    items = "".join(_context(context, largest) for context in contexts)
    return f'<ol class="contexts">{items}</ol>'


def _context(context: Context, largest: float) -> str:
    pieces = "".join(
        _piece(piece, value, largest, marked=i == context.peak)
        for i, (piece, value) in enumerate(zip(context.pieces, context.activations, strict=True))
    )
    return (
        f'<li><span>{context.activations[context.peak]:.3g}</span><p dir="auto">{pieces}</p></li>'
    )


def _piece(text: str, value: float, largest: float, marked: bool) -> str:
    visible = _visible(text)
    if not value and not marked:
        return visible
    tag, sign = "mark" if marked else "span", ' class="minus"' if value < 0 else ""
    shade = f"--a:{0.1 + 0.9 * abs(value) / largest:.2f}"
    return f'<{tag}{sign} style="{shade}" title="{value:.3g}">{visible}</{tag}>'


def _visible(text: str) -> str:
    """Escaped text with visible white space and control characters.

    Spaces between words stay spaces; a piece of only spaces gets visible signs.
    """
    if not text.strip(" "):
        return f"<i>{VISIBLE[' '] * len(text)}</i>"
    return "".join(_character(character) for character in text)


def _character(character: str) -> str:
    if character == " ":
        return character
    if character in VISIBLE:
        return f"<i>{VISIBLE[character]}</i>"
    if unicodedata.category(character) in ("Cc", "Cs") or (
        unicodedata.bidirectional(character) in DIRECTION_CLASSES
    ):
        return f"<i>U+{ord(character):04X}</i>"
    return escape(character)
