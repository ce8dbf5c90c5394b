"""The style sheet of all reports; on paper they are always light."""

from sparsact.report.palette import PALETTE, ROLES, variables

_COLOURS = "".join(
    f".{name} {{ --c: var(--{name}); }}\n"
    for name in [*ROLES, *(f"c{i}" for i in range(len(PALETTE)))]
)

STYLE = f"""
.sparsact {{
color-scheme: light dark; {variables(dark=False)}
font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
@media screen and (prefers-color-scheme: dark) {{ {variables(dark=True)} }}
@media print {{ color-scheme: light; font-size: 10pt; print-color-adjust: exact;
               -webkit-print-color-adjust: exact; }}
{_COLOURS}
h1 {{ margin-bottom: .2rem; overflow-wrap: anywhere; }}
h2 {{ margin: 2rem 0 .3rem; break-after: avoid; }}
p.how {{ margin: 0 0 .6rem; color: var(--muted); max-width: 60rem; break-after: avoid; }}
ul.facts {{ list-style: none; padding: 0; color: var(--muted); overflow-wrap: anywhere; }}
p.conclusion {{ border-left: 4px solid var(--front); padding: .4rem 1rem;
               background: var(--highlight); }}
div.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums;
        font-size: 13px; }}
th, td {{ padding: .35rem .55rem; text-align: right; border-bottom: 1px solid var(--line);
         white-space: nowrap; color: inherit; background: none; }}
th {{ white-space: normal; vertical-align: bottom; }}
th:first-child, td:first-child {{ text-align: left; }}
tr.picked td {{ background: var(--highlight); font-weight: 600; }}
tr {{ break-inside: avoid; }}
@media print {{ div.scroll {{ overflow: visible; }} table {{ font-size: 7.5pt; }}
               th, td {{ padding: .2rem .3rem; }} }}
div.panels {{ display: grid; gap: .8rem 1.2rem;
             grid-template-columns: repeat(auto-fill, minmax(min(100%, 15rem), 1fr)); }}
p.key {{ margin: 0 0 .3rem; color: var(--muted); font-size: .87em; }}
p.key b {{ color: var(--c); }}
div.panels.large {{ grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); }}
div.panels.single {{ grid-template-columns: minmax(0, 46rem); }}
figure {{ margin: 0; min-width: 0; break-inside: avoid; }}
figcaption {{ font-weight: 600; font-size: .87em; overflow-wrap: anywhere; }}
summary {{ cursor: pointer; color: var(--muted); margin: .6rem 0; }}
svg.chart {{ display: block; width: 100%; height: auto; overflow: visible;
            font: 12px system-ui, sans-serif; }}
svg.chart.wide {{ max-width: 1100px; }}
svg.chart.narrow {{ display: none; }}
@media (max-width: 42rem) {{ svg.chart.wide {{ display: none; }}
                            svg.chart.narrow {{ display: block; }} }}
svg .stroke, svg .error, svg .leader {{ fill: none; stroke: var(--c); stroke-width: 1.8;
                                     stroke-linejoin: round; }}
svg .error, svg .leader, svg .thin {{ stroke-width: 1; }}
svg .leader {{ opacity: .45; }}
svg .error {{ opacity: .6; }}
svg .dotted {{ stroke-dasharray: 4 3; }}
svg .filled {{ fill: var(--c); fill-opacity: .18; }}
svg .band {{ fill: var(--c); opacity: .18; }}
svg .bar {{ fill: var(--c); stroke: var(--paper); stroke-width: .5; }}
svg .fill {{ fill: var(--c); }}
svg .point {{ fill: var(--c); stroke: var(--c); stroke-width: 1.6; }}
svg .point.hollow {{ fill: var(--paper); }}
svg g:hover > .stroke {{ stroke-width: 3; }}
svg g:hover > .point, svg g:hover > .bar {{ stroke: var(--ink); }}
svg .tick {{ fill: var(--muted); }}
svg .grid {{ stroke: var(--line); fill: none; stroke-width: 1; }}
}}
"""
"""Of a page, and of a part of another page: all of it is within the class ``sparsact``."""

PAGE_STYLE = """
.sparsact > body { max-width: 1280px; margin: 0 auto; padding: 1rem;
                   @media print { padding: 0; max-width: none; } }
@page { margin: 12mm; }
"""
"""Of a page of its own."""
