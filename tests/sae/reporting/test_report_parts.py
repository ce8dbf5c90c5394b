"""Logit lens, examples at quantiles, the map, and the comparison of two autoencoders."""

import pytest
import torch

from sparsact.report.autoencoder.autoencoder_page import save_autoencoder
from sparsact.report.autoencoder.autoencoder_records import (
    AutoencoderReport,
    Bars,
    Context,
    DirectionMap,
    Latent,
    LatentGroup,
)
from sparsact.sae import (
    SAEConfig,
    SparseAutoencoder,
    decoder_cosines,
    match_dictionaries,
    open_rows,
    pack_tokens,
)
from sparsact.sae.evaluation import dictionary_match
from sparsact.sae.reporting.direction_records import make_comparison, make_map
from sparsact.sae.reporting.latent_records import make_groups
from sparsact.sae.reporting.latent_statistics import Passages, describe
from sparsact.sae.reporting.logit_lens import logit_lens
from tiny_language import gpt2, llama


class Words:
    """A tokenizer of numbered words."""

    def decode(self, ids, **options):
        return "".join(f" w{id}" for id in ids)


def autoencoder(d_in=32, d_sae=64):
    torch.manual_seed(d_sae)
    return SparseAutoencoder(SAEConfig(d_in, d_sae, k=4)).eval()


class TestLogitLens:
    @pytest.mark.parametrize("make", [llama, gpt2])
    def test_against_the_effect_of_a_long_step(self, make):
        """Far along a direction, the model's own norm and head give these logits."""
        model = make()
        if make is gpt2:
            torch.nn.init.normal_(model.transformer.ln_f.bias)
        norm = model.model.norm if make is llama else model.transformer.ln_f
        torch.nn.init.normal_(norm.weight)
        directions = torch.nn.functional.normalize(torch.randn(5, 32), dim=1)
        found = logit_lens(model, directions, Words(), count=6)
        with torch.no_grad():
            bias = norm(torch.zeros(32)) @ model.lm_head.weight.T
            logits = model.lm_head(norm(1e4 * directions)) - bias
        for (promoted, suppressed), row in zip(found, logits, strict=True):
            best, worst = row.topk(6), (-row).topk(6)
            assert [text for text, _ in promoted] == [f" w{i}" for i in best.indices.tolist()]
            assert [text for text, _ in suppressed] == [f" w{i}" for i in worst.indices.tolist()]
            values = torch.tensor([value for _, value in promoted])
            torch.testing.assert_close(values, best.values, rtol=2e-3, atol=1e-3)

    def test_a_model_without_a_head_of_that_width(self):
        assert logit_lens(llama(), torch.randn(3, 16), Words()) is None
        assert logit_lens(llama().model, torch.randn(3, 32), Words()) is None


@pytest.fixture
def passages():
    generator = torch.Generator().manual_seed(1)
    tokens = pack_tokens(torch.randint(2, 30, (300,), generator=generator).tolist(), 25, bos=0)
    return Passages(open_rows(torch.randn(300, 32, generator=generator)), tokens, batch=48)


def test_the_sample_is_drawn_from_the_active_places(passages):
    sae = autoencoder()
    latents = [3, 8, 40]
    everything = describe(sae, passages, latents, sample=300)
    (whole,) = [torch.cat([rows for _, rows in passages.batches()])]
    codes = sae.encode(whole).detach()[:, latents]
    for details, code in zip(everything, codes.T, strict=True):
        values = [peak.value for peak in details.sample]
        assert values == sorted(code[code != 0].tolist(), reverse=True)
        few = details.at_quantiles((1.0, 0.5, 0.0))
        assert few[0].value == values[0]
        assert few[-1].value == values[-1]
    sampled = describe(sae, passages, latents, sample=5, seed=3)
    again = describe(sae, passages, latents, sample=5, seed=3)
    for details, same, full in zip(sampled, again, everything, strict=True):
        assert details.sample == same.sample
        assert len(details.sample) == min(5, details.fired)
        assert set(details.sample) <= set(full.sample)
    assert describe(sae, passages, latents)[0].sample == ()


def test_every_active_place_is_as_likely(passages):
    """Over many seeds, each is drawn equally often."""
    sae = autoencoder()
    full = describe(sae, passages, [8], sample=300)[0].sample
    counts = dict.fromkeys(full, 0)
    for seed in range(200):
        for peak in describe(sae, passages, [8], sample=3, seed=seed)[0].sample:
            counts[peak] += 1
    expected = 200 * 3 / len(full)
    chi = sum((count - expected) ** 2 / expected for count in counts.values())
    assert chi < 2.5 * len(full)


def test_dashboards_have_all_parts(passages):
    sae, other = autoencoder(), autoencoder(d_sae=96)
    lens = {index: (((" up", 1.0),), ((" down", -1.0),)) for index in range(64)}
    match = match_dictionaries(sae, other)
    groups = make_groups(
        sae, passages, {"All": [3, 8]}, Words(), 4, lens=lens, match=match, quantiles=(0.9, 0.1)
    )
    latent = groups[0].latents[0]
    assert len(latent.quantiles) == 2
    assert latent.promoted == ((" up", 1.0),)
    assert latent.suppressed == ((" down", -1.0),)
    assert latent.counterpart == (int(match.nearest[3]), float(match.cosine[3]))


def test_matches_of_dictionaries_against_brute_force(monkeypatch):
    monkeypatch.setattr(dictionary_match, "_ROWS", 10)
    sae, other = autoencoder(8, 30), autoencoder(8, 70)
    with torch.no_grad():
        other.W_dec[:40] = sae.W_dec[torch.arange(40) % 20] + 0.1 * torch.randn(40, 8)
    match = match_dictionaries(sae, other, near=0.8)
    unit = [torch.nn.functional.normalize(one.W_dec.detach(), dim=1) for one in (sae, other)]
    cosine = unit[0] @ unit[1].T
    torch.testing.assert_close(match.cosine, cosine.max(1).values)
    assert torch.equal(match.nearest, cosine.argmax(1))
    for latent in range(30):
        own = [
            j for j in range(70) if cosine[:, j].argmax() == latent and cosine[:, j].max() >= 0.8
        ]
        assert match.children[latent] == len(own)
    assert match.matched == pytest.approx(float((cosine.max(1).values >= 0.8).float().mean()))
    assert match.split >= 0.5
    inner = unit[0] @ unit[0].T - 2 * torch.eye(30)
    torch.testing.assert_close(decoder_cosines(sae), inner.max(1).values)


def test_what_cannot_be_matched():
    with pytest.raises(ValueError, match="width 8 and 32"):
        match_dictionaries(autoencoder(8), autoencoder(32))
    with pytest.raises(ValueError, match="near="):
        match_dictionaries(autoencoder(8), autoencoder(8), near=0)
    single = SparseAutoencoder(SAEConfig(8, 1, k=1))
    with pytest.raises(ValueError, match="one latent"):
        decoder_cosines(single)
    assert make_map(single, [0], 0) is None


def test_the_map_is_the_principal_plane():
    sae = autoencoder(8, 30)
    with torch.no_grad():
        sae.W_dec[:, 2:] *= 0.05  # nearly a plane
    directions = make_map(sae, [5, 7], seed=0)
    assert {point[0] for point in directions.points} == set(range(30))
    assert directions.points[0][0] == 5
    rows = torch.nn.functional.normalize(sae.W_dec.detach(), dim=1)
    values = torch.linalg.svdvals(rows - rows.mean(0)).square()
    assert directions.share == pytest.approx(float(values[:2].sum() / values.sum()), rel=1e-4)
    assert directions.share > 0.9


def big_latent(index):
    pieces = tuple(f" word{i}" for i in range(33))
    context = Context(pieces, (0.0,) * 14 + (1.234,) * 5 + (0.0,) * 14, 16)
    return Latent(
        *(index, 100, 0.01, 0.5, 1.234, Bars(tuple(map(float, range(41))), (3,) * 40)),
        contexts=(context,) * 10,
        neighbours=tuple((i, 0.5) for i in range(6)),
        quantiles=(context,) * 5,
        promoted=tuple((f" up{i}", 1.5) for i in range(10)),
        suppressed=tuple((f" down{i}", -1.5) for i in range(10)),
        counterpart=(7, 0.25),
    )


def test_a_page_of_200_latents(tmp_path):
    sae, other = autoencoder(8, 300), autoencoder(8, 70)
    comparison = make_comparison(sae, other, match_dictionaries(sae, other), "<other>")
    groups = (LatentGroup("All", tuple(map(big_latent, range(200)))),)
    points = tuple((i, float(i), float(-i)) for i in range(1500))
    report = AutoencoderReport(
        *("Title", ("fact",), "conclusion", (), (), None, groups),
        directions=DirectionMap(points, 0.3),
        comparison=comparison,
    )
    save_autoencoder(report, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 2_000_000
    assert "Compared with &lt;other&gt;" in page
    assert page.count("<circle") == 1500
    assert page.count('<a href="#latent-7"><circle') == 1
    assert page.count("Promotes") == page.count("Suppresses") == 200
    assert page.count("falling quantiles") == 200
    assert page.count("<script>") == 1
    assert "http" not in page.replace("http://www.w3.org", "")
