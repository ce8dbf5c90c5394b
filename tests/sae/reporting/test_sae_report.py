"""Dashboards against brute force on a tiny model, and the report of a run from its files."""

import json
import math
from html import escape

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel, PreTrainedTokenizerFast

from sparsact._common.errors import InputError
from sparsact.sae import SAEConfig, SparseAutoencoder, open_rows, save_sae
from sparsact.sae.data.activation_source import ActivationSource
from sparsact.sae.reporting import write_report
from sparsact.sae.reporting.latent_records import choose_latents, make_groups
from sparsact.sae.reporting.latent_statistics import Passages, describe, fired_on
from sparsact.sae.reporting.report_writing import DashboardChoice
from sparsact.sae.reporting.token_pieces import split_pieces
from sparsact.sae.reporting.training_curves import make_densities, make_figures, make_panels, thin
from sparsact.sae.training.run_settings import SAERun
from sparsact.sae.training.training_run import train_run
from sparsact.text import Tokens, pack_tokens

WIDTH, LATENTS = 6, 12


class Bytes:
    """A tokenizer of single bytes."""

    def decode(self, ids, **options):
        return bytes(ids).decode(errors="replace")


@pytest.fixture
def sae():
    torch.manual_seed(0)
    sae = SparseAutoencoder(SAEConfig(WIDTH, LATENTS, "topk", k=3)).eval()
    sae.encoder.bias.data[5] = -100.0  # never fires
    return sae


@pytest.fixture(params=[1, 40, 2048], ids="batch-{}".format)
def passages(request):
    """350 random tokens in rows of 23, with batches from one row to all."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(32, 127, (350,), generator=generator).tolist()
    tokens = pack_tokens(ids, 24, bos=0)
    rows = open_rows(torch.randn(350, WIDTH, generator=generator))
    return Passages(rows, tokens, batch=request.param)


def codes_of(sae, passages):
    batches = list(passages.batches())
    assert [start for start, _ in batches] == [
        0,
        *torch.tensor([len(x) for _, x in batches]).cumsum(0)[:-1].tolist(),
    ]
    with torch.no_grad():
        return sae.encode(torch.cat([batch for _, batch in batches]))


def greedy(code, row, reach):
    """Places of the largest entries, none within reach of a larger one in its row."""
    taken = []
    for place in code.abs().argsort(descending=True).tolist():
        near = any(row[place] == row[other] and abs(place - other) <= reach for other in taken)
        if code[place] != 0 and not near:
            taken.append(place)
    return taken


def test_numbers_equal_brute_force(sae, passages):
    codes = codes_of(sae, passages)
    row = torch.arange(350) // 23
    assert torch.equal(fired_on(sae, passages), (codes != 0).sum(0))
    for index, details in enumerate(describe(sae, passages, range(LATENTS), peaks=4, reach=3)):
        code = codes[:, index]
        assert details.fired == int((code != 0).sum()) == sum(details.histogram.counts)
        assert details.total == pytest.approx(float(code.sum()), abs=1e-4)
        places = greedy(code, row, 3)[:4]
        assert [peak.value for peak in details.peaks] == pytest.approx(code[places].tolist())
        for peak, place in zip(details.peaks, places, strict=True):
            window = [
                i for i in range(place - 3, place + 4) if 0 <= i < 350 and row[i] == row[place]
            ]
            assert peak.ids == tuple(passages.ids[window].tolist())
            assert peak.activations == pytest.approx(code[window].tolist())
            assert window[peak.at] == place


def test_the_records_of_a_latent(sae, passages):
    codes = codes_of(sae, passages)
    (group,) = make_groups(sae, passages, {"all": [3, 5]}, Bytes(), contexts=2)
    alive, dead = group.latents
    active = codes[:, 3][codes[:, 3] != 0]
    assert alive.density == len(active) / 350
    assert alive.mean == pytest.approx(float(active.mean()))
    assert alive.peak == pytest.approx(float(active.max()))
    assert alive.histogram.edges[0] == 0
    assert alive.histogram.edges[-2] <= alive.peak < alive.histogram.edges[-1]
    assert sum(alive.histogram.counts) == alive.fired == len(active)
    assert len(alive.contexts) == 2
    for context in alive.contexts:
        assert context.activations[context.peak] == max(context.activations)
    unit = torch.nn.functional.normalize(sae.W_dec.detach(), dim=1)
    cosine = (unit[3] @ unit.T).tolist()
    nearest = sorted((i for i in range(LATENTS) if i != 3), key=lambda i: -cosine[i])[:6]
    assert [index for index, _ in alive.neighbours] == nearest
    assert [value for _, value in alive.neighbours] == pytest.approx([cosine[i] for i in nearest])
    assert (dead.fired, dead.mean, dead.peak, dead.histogram, dead.contexts) == (
        (0, None, None, None, ())
    )


def test_signed_latents_peak_by_magnitude():
    sae = SparseAutoencoder(SAEConfig(2, 2, "softshrink")).eval()
    sae.encoder.weight.data = torch.eye(2)
    rows = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 0.0], [-20.0, 0.0]])
    tokens = Tokens(torch.arange(65, 69)[None], torch.ones(1, 4, dtype=torch.bool))
    (group,) = make_groups(sae, Passages(open_rows(rows), tokens), {"all": [0]}, Bytes(), 3)
    (latent,) = group.latents
    assert latent.peak < -9
    assert latent.histogram.edges[0] < latent.peak
    assert latent.histogram.edges[-1] >= 9
    assert latent.contexts[0].pieces[latent.contexts[0].peak] == "D"


def test_the_same_text_is_shown_once(sae):
    generator = torch.Generator().manual_seed(2)
    row = torch.randn(8, WIDTH, generator=generator)
    tokens = Tokens(torch.arange(8).repeat(20, 1), torch.ones(20, 8, dtype=torch.bool))
    passages = Passages(open_rows(row.repeat(20, 1)), tokens)
    for details in describe(sae, passages, range(LATENTS), peaks=5, reach=8):
        assert len(details.peaks) == (details.fired > 0)


def test_activations_of_another_text_are_rejected():
    with pytest.raises(ValueError, match="5 activations do not fit 4 tokens"):
        Passages(open_rows(torch.zeros(5, 2)), pack_tokens([1, 2, 3, 4], 2))


def test_choice_of_latents():
    fired = torch.tensor([5, 0, 9, 3, 7, 1, 0, 2])
    chosen = choose_latents(fired, 2, 3, [], seed=0)
    assert chosen["Most active"] == [2, 4]
    sample = chosen["Random sample of the others"]
    assert len(sample) == 3
    assert set(sample) <= {0, 3, 5, 7}
    assert choose_latents(fired, 2, 3, [], seed=0) == chosen
    assert len({str(choose_latents(fired, 2, 3, [], seed)) for seed in range(20)}) > 1
    assert choose_latents(fired, 1, 9, [1, 2, 1], 0) == {
        "Chosen by index": [1, 2],
        "Most active": [4],
        "Random sample of the others": [0, 3, 5, 7],
    }
    assert choose_latents(torch.zeros(4), 2, 2, [], 0) == {}
    with pytest.raises(ValueError, match="no latent 8: they are 0 to 7"):
        choose_latents(fired, 1, 1, [8], 0)


@pytest.mark.parametrize("text", ["plain", "naïve 漢字", "👩‍👩‍👧‍👦🎉", "مرحبا", "\ufffd!", ""])
def test_pieces_join_to_the_text(text):
    ids = list(text.encode())
    pieces = split_pieces(Bytes(), ids)
    assert "".join(piece for piece, _ in pieces) == text
    assert sum(length for _, length in pieces) == len(ids)
    if "\ufffd" not in text:
        assert [piece for piece, _ in pieces] == list(text)


def test_a_window_may_cut_a_character():
    ids = list("é漢".encode())[1:-1]
    assert "".join(piece for piece, _ in split_pieces(Bytes(), ids)) == "\ufffd\ufffd"


def test_curves_are_thinned_to_means():
    assert thin([float(i) for i in range(800)]) == tuple(2 * i + 0.5 for i in range(400))
    assert len(thin([0.0] * 1001)) == 334
    assert thin([math.inf, 2.0] * 500)[:2] == (2.0, 2.0)
    assert math.isnan(thin([math.nan])[0])


def line(step, **changes):
    fields = dict.fromkeys(
        ("penalty", "coefficient", "aux", "dead", "skipped", "gradient_norm"), 0.0
    )
    return {"step": step, "loss": 1 / step, "fvu": 0.5, "l0": 32.0, "lr": 1e-3} | fields | changes


def test_panels_leave_out_values_that_are_always_zero():
    training = {"aux_coefficient": 0.5, "target_l0": 30.0}
    plain = make_panels([line(1), line(2, coefficient=1e-3)], training)
    assert [panel.title.split()[0] for panel in plain] == ["Loss", "Variance", "L0:", "Learning"]
    assert plain[0].steps == (1.0, 2.0)
    assert [trace.values for trace in plain[0].traces] == [(1.0, 0.5)]
    assert [panel.target for panel in plain] == [None, None, 30.0, None]
    full = make_panels(
        [line(1, penalty=4.0, coefficient=0.5, aux=3.0, dead=2, skipped=1)], training
    )
    assert [trace.values for trace in full[0].traces] == [(1.0,), (2.0,), (1.5,)]
    assert len(full) == len(plain) + 3
    assert make_panels([], training) == ()


def test_figures_and_densities():
    metrics = {"inputs": 2048, "fvu": 0.123456, "mse": math.nan, "density": [0.5], "ce_loss": 1.5}
    assert make_figures(metrics) == (
        ("activations measured", "2048"),
        ("FVU: unexplained share of the variance", "0.1235"),
        ("mean squared error per entry", "nan"),
        ("ce loss", "1.5"),
    )
    bars = make_densities(torch.tensor([0.0, 0.001, 0.1, 0.1]))
    assert bars.edges[0] == pytest.approx(-3)
    assert sum(bars.counts) == 3
    assert make_densities(torch.zeros(3)) is None


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A language model of two layers that reads bytes, as a directory."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    letters = Tokenizer(models.BPE({letter: i for i, letter in enumerate(alphabet)}, []))
    letters.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters.decoder = decoders.ByteLevel()
    path = tmp_path_factory.mktemp("model")
    PreTrainedTokenizerFast(tokenizer_object=letters).save_pretrained(path)
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 16, "vocab_size": 256}
    config = LlamaConfig(num_hidden_layers=2, num_attention_heads=2, **sizes)
    LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture
def single(tmp_path):
    torch.manual_seed(0)
    return save_sae(SparseAutoencoder(SAEConfig(16, 24, "topk", k=3)), tmp_path / "sae")


def reading(model, *text, layer="model.layers.0", **changes):
    return {"model": str(model), "layer": layer, "text": tuple(map(str, text)), **changes}


def test_an_autoencoder_by_itself_in_a_text(model, single, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("if <b>&</b> else: naïve 🎉\n" * 40, encoding="utf-8")
    choice = DashboardChoice(most=3, sample=2)

    def page_in_text():
        page = write_report(single, choice=choice, source=reading(model, text, length=64))
        return page.read_text(encoding="utf-8")

    page = page_in_text()
    assert page.count("<article") == 5
    assert "naïve" in page
    assert "🎉" in page.replace("</mark>", "").replace("</span>", "")
    assert "<b>" not in page[page.index("<article") :]
    assert "no record of its training" in page
    assert sorted(file.name for file in single.iterdir()) == (
        ["config.json", "report.html", "sae.safetensors"]
    )
    assert page_in_text() == page


def test_a_run_on_a_text(model, tmp_path, monkeypatch):
    text, other = tmp_path / "text.txt", tmp_path / "other.txt"
    text.write_text("def function(argument): return argument\n" * 40)
    other.write_text("something else entirely\n" * 20)
    source = ActivationSource(
        model=str(model), layer="model.layers.0", text=(str(text),), length=64
    )
    sizes = {"d_sae": 24, "k": 3, "steps": 5, "batch_size": 64, "held_out": 100}
    run = tmp_path / "run"
    train_run(SAERun(source, out=str(run), **sizes))
    curves = write_report(run, choice=DashboardChoice(0, 0)).read_text(encoding="utf-8")
    assert "Norm of the gradient" in curves
    assert "On 100 held-out activations 3.0 latents" in curves
    notes = json.loads((run / "metrics.json").read_text())["notes"]
    assert all(escape(note) in curves for note in notes)
    assert "<article" not in curves
    monkeypatch.setattr(LlamaModel, "forward", None)  # the run's activations are on disk
    page = write_report(run).read_text(encoding="utf-8")
    assert f"latents in {40 * 40} tokens of {text}: 3.0 active at a time" in page
    monkeypatch.undo()
    before = sorted(run.rglob("*"))
    changed = {"text": (str(other),)}
    page = write_report(run, source=changed, out=tmp_path / "other.html")
    page = page.read_text(encoding="utf-8")
    assert f"latents in {20 * 24} tokens of {other}" in page
    assert sorted(run.rglob("*")) == before
    assert not list(tmp_path.glob(".activations*"))
    kept = changed | {"cache": str(tmp_path / "kept")}
    write_report(run, source=kept, out=tmp_path / "other.html")
    assert (tmp_path / "kept" / "manifest.json").exists()


def test_mistakes(model, single, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("words " * 20)
    wrong = [
        (tmp_path / "none", {}, (), "config.json"),
        (single, reading(model), (), "text="),
        (single, reading(model, text, layer="model.layers.9"), (), "model.layers"),
        (single, reading(model, text, layer="lm_head"), (), "width 256"),
        (single, reading(model, text), (24,), "no latent 24"),
        (single, reading(model, tmp_path / "no.txt"), (), "no.txt"),
    ]
    for path, source, latents, message in wrong:
        with pytest.raises(InputError, match=message):
            write_report(path, source=source, choice=DashboardChoice(latents=latents))
    with pytest.raises(ValueError, match="contexts= must be at least 1, got 0"):
        DashboardChoice(contexts=0)


def test_weights_that_are_not_finite(tmp_path):
    sae = SparseAutoencoder(SAEConfig(4, 8, "topk", k=2))
    sae.encoder.weight.data[0, 0] = torch.nan
    save_sae(sae, tmp_path)
    with pytest.raises(InputError, match="not finite"):
        write_report(tmp_path)


def test_a_run_that_has_not_ended(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps(line(1)) + "\n")
    with pytest.raises(InputError, match="resume="):
        write_report(tmp_path)
