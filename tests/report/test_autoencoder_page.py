"""The page of an autoencoder, from records made by hand. No model is trained."""

import errno
import math
import os
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sparsact._common.errors import OutputError
from sparsact.report.autoencoder.autoencoder_page import save_autoencoder
from sparsact.report.autoencoder.autoencoder_records import (
    AutoencoderReport,
    Bars,
    Context,
    Latent,
    LatentGroup,
    Panel,
    Trace,
)

VOID = {"meta", "br", "hr", "img", "link", "input", "path", "rect"}
HOSTILE = ("</span><script>alert(1)</script>", ' "x" & <b>', "'>", "\n\t", "  ", "\u202e", "\x00")


class Walk(HTMLParser):
    """Checks that tags are closed in order; collects ids, links and the text of articles."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.sources: list[str] = []
        self.scripts = 0
        self.texts: list[str] = []
        self.marks: list[str] = []

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        assert len(named) == len(attrs), f"an attribute twice in <{tag}>"
        self.ids += [named["id"]] if "id" in named else []
        self.links += [named["href"]] if "href" in named else []
        self.sources += [named["src"]] if "src" in named else []
        self.scripts += tag == "script"
        if tag == "p" and named.get("dir") == "auto":
            self.texts.append("")
        if tag == "mark":
            self.marks.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "ol" in self.open and "p" in self.open:
            self.texts[-1] += data
        if "mark" in self.open:
            self.marks[-1] += data


def latent(index, **changes):
    fields = {
        "index": index,
        "fired": 5,
        "density": 0.05,
        "mean": 1.5,
        "peak": 3.0,
        "histogram": Bars((0.0, 1.5, 3.0), (2, 3)),
        "contexts": (Context(("one ", "two", " three"), (0.0, 3.0, 1.5), 1),),
        "neighbours": ((7, 0.75), (8, -0.5)),
    }
    return Latent(**(fields | changes))


def dead(index):
    nothing = {"mean": None, "peak": None, "histogram": None, "contexts": ()}
    return latent(index, fired=0, density=0.0, **nothing)


def report(*latents, **changes):
    fields = {
        "title": "Title <script>alert(1)</script>",
        "facts": ("a <fact> & more", "lone \udcff surrogate"),
        "conclusion": "conclude <i>this</i>",
        "figures": (("L0 <b>", "31.9"),),
        "panels": (
            Panel("Loss", (1.0, 2.0), (Trace("</script>", (1.0, math.nan)),), True),
            Panel("L0", (1.0, 2.0), (Trace("l0", (30.0, 32.0)),), target=31.5),
        ),
        "densities": Bars((-2.0, -1.0, 0.0), (3, 4)),
        "groups": (LatentGroup("Most <active>", latents),) if latents else (),
    }
    return AutoencoderReport(**(fields | changes))


def written(page, tmp_path: Path):
    save_autoencoder(page, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    walk = Walk()
    walk.feed(text)
    walk.close()
    assert walk.open == []
    assert len(set(walk.ids)) == len(walk.ids)
    return text, walk


def test_the_page_is_well_formed_and_self_contained(tmp_path):
    text, walk = written(report(latent(3), latent(7)), tmp_path)
    assert not walk.sources
    assert all(link.startswith("#") for link in walk.links)
    assert {link[1:] for link in walk.links} <= set(walk.ids)
    assert walk.scripts == 1  # of the search box, without which the page is complete
    assert text.count('<svg class="chart') == 3
    for word in ("a <fact> & more", "conclude <i>this</i>", "L0 <b>", "Most <active>"):
        assert escape(word) in text
    assert len(text) < 100_000


def test_markup_in_the_text_is_escaped(tmp_path):
    plain = written(report(latent(3)), tmp_path)[1]
    context = Context(HOSTILE, (0.5,) * len(HOSTILE), 0)
    text, walk = written(report(latent(3, contexts=(context,))), tmp_path)
    assert walk.scripts == plain.scripts
    assert "<script>alert" not in text
    assert walk.marks == ["</span><script>alert(1)</script>"]
    (shown,) = walk.texts
    assert shown == '</span><script>alert(1)</script> "x" & <b>\'>↵⇥··U+202EU+0000'


def test_other_scripts_and_emoji_are_complete(tmp_path):
    pieces = ("مرحبا", " שלום", " 👩‍👩‍👧‍👦", " é漢")
    _, walk = written(
        report(latent(1, contexts=(Context(pieces, (0.0, 1.0, 0.0, 0.0), 1),))), tmp_path
    )
    assert walk.texts == ["".join(pieces)]
    assert walk.marks == [" שלום"]


def test_the_shade_shows_the_activation(tmp_path):
    contexts = (Context(("a", "b", "c", "d"), (3.0, 1.5, 0.0, -3.0), 0),)
    text, _ = written(report(latent(1, contexts=contexts)), tmp_path)
    assert '<mark style="--a:1.00" title="3">a</mark>' in text
    assert '<span style="--a:0.55" title="1.5">b</span>c' in text
    assert '<span class="minus" style="--a:1.00" title="-3">d</span>' in text


def test_neighbours_with_a_dashboard_are_links(tmp_path):
    text, walk = written(report(latent(3), latent(7)), tmp_path)
    assert '<a href="#latent-7">7</a> (0.75), 8 (-0.50)' in text
    assert {"latent-3", "latent-7", "latents"} <= set(walk.ids)
    assert "#latent-8" not in walk.links


def test_a_dead_latent_is_labelled(tmp_path):
    text, _ = written(report(dead(4)), tmp_path)
    assert "it never fired" in text
    assert "<svg" not in text[text.index('id="latent-4"') :]
    assert "it never fired" not in written(report(latent(4)), tmp_path)[0]


def test_missing_parts_are_left_out(tmp_path):
    text, walk = written(report(panels=(), figures=(), densities=None), tmp_path)
    assert "<svg" not in text
    assert not walk.ids
    text, _ = written(report(panels=(), figures=()), tmp_path)
    assert text.count('<svg class="chart') == 1
    assert "<table" not in text


def test_a_curve_without_a_finite_value_is_empty(tmp_path):
    text, _ = written(
        report(panels=(Panel("Loss", (1.0,), (Trace("loss", (math.nan,)),)),)), tmp_path
    )
    assert re.findall('<path class="stroke c0 [^>]*d="([^"]*)"', text) == [""]
    assert "nan " not in text[text.index("<svg") :].replace("nan at the end", "")


def test_a_full_disk_keeps_the_old_report(tmp_path, monkeypatch):
    before = written(report(latent(3)), tmp_path)[0]
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OutputError, match="No space left"):
        save_autoencoder(report(latent(4)), tmp_path / "page.html")
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == before


def refuse(descriptor):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_same_report_gives_the_same_file(tmp_path):
    assert written(report(latent(3)), tmp_path)[0] == written(report(latent(3)), tmp_path)[0]
