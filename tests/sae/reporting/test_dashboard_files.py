"""Dashboards written for Neuronpedia, and as prompts."""

import json

import pytest
import torch

from sparsact.sae import SAEConfig, SparseAutoencoder, open_rows, pack_tokens, save_sae
from sparsact.sae.reporting import write_report
from sparsact.sae.reporting.interpretation_prompts import silent_passages, write_prompts
from sparsact.sae.reporting.latent_records import make_groups
from sparsact.sae.reporting.latent_statistics import Passages
from sparsact.sae.reporting.neuronpedia_export import DashboardText, write_neuronpedia

TEXT = DashboardText("a/model", "model.layers.7", 13, 25, "text.txt")
FEATURE = {
    *("feature_index", "neuron_alignment_indices", "neuron_alignment_values"),
    *("neuron_alignment_l1", "correlated_neurons_indices", "correlated_neurons_l1"),
    *("correlated_neurons_pearson", "correlated_features_indices", "correlated_features_l1"),
    *("correlated_features_pearson", "neg_str", "neg_values", "pos_str", "pos_values"),
    *("frac_nonzero", "freq_hist_data_bar_values", "freq_hist_data_bar_heights"),
    *("logits_hist_data_bar_heights", "logits_hist_data_bar_values", "n_prompts_total"),
    *("n_tokens_in_prompt", "dataset", "decoder_weights_dist", "activations", "vector"),
}
"""The fields of a feature in the files of SAEDashboard 0.8."""


class Words:
    """A tokenizer of numbered words."""

    def decode(self, ids, **options):
        return "".join(f" w{id}" for id in ids)


@pytest.fixture(scope="module")
def sae():
    torch.manual_seed(0)
    sae = SparseAutoencoder(SAEConfig(16, 200, k=8)).eval()
    sae.encoder.bias.data[5] = -100.0  # never fires
    return sae


@pytest.fixture(scope="module")
def passages():
    generator = torch.Generator().manual_seed(1)
    tokens = pack_tokens(torch.randint(2, 30, (900,), generator=generator).tolist(), 25, bos=0)
    return Passages(open_rows(torch.randn(900, 16, generator=generator)), tokens, batch=100)


@pytest.fixture(scope="module")
def groups(sae, passages):
    lens = {index: (((" up", 1.5),), ((" down", -1.5),)) for index in range(200)}
    chosen = {"A": [5, 190], "B": [3, *range(6, 140)]}
    return make_groups(sae, passages, chosen, Words(), 10, lens=lens, quantiles=(0.9, 0.5, 0.1))


def test_the_json_of_neuronpedia(sae, groups, tmp_path):
    files = write_neuronpedia(groups, sae.W_dec.detach(), TEXT, tmp_path / "out")
    assert [file.name for file in files] == ["batch-0.json", "batch-1.json"]
    batches = [json.loads(file.read_text()) for file in files]
    assert {batch["layer"] for batch in batches} == {7}
    assert batches[0]["model_id"] == "a/model"
    features = [feature for batch in batches for feature in batch["features"]]
    assert [one["feature_index"] for one in features] == [3, 5, *range(6, 140), 190]
    assert all(set(one) == FEATURE for one in features)
    first, dead = features[0], features[1]
    latent = next(one for one in groups[1].latents if one.index == 3)
    assert first["vector"] == sae.W_dec[3].tolist()
    assert first["pos_str"] == [" up"]
    assert first["neg_values"] == [-1.5]
    assert first["frac_nonzero"] == latent.density
    assert len(first["freq_hist_data_bar_values"]) == len(first["freq_hist_data_bar_heights"])
    assert sum(first["freq_hist_data_bar_heights"]) == latent.fired
    top = [one for one in first["activations"] if one["bin_min"] == -1]
    assert [one["tokens"] for one in top] == [list(one.pieces) for one in latent.contexts]
    for one in first["activations"]:
        assert len(one["tokens"]) == len(one["values"])
        largest = max(one["values"], key=abs)
        assert one["qualifying_token_index"] < len(one["values"])
        assert abs(largest) <= abs(latent.peak) + 1e-6
    assert dead["activations"] == dead["freq_hist_data_bar_values"] == []


def test_prompts(sae, passages, groups, tmp_path):
    silent = silent_passages(sae, passages, [3, 5, 190], Words(), seed=1)
    assert all(silent.values())
    file = write_prompts(groups, silent, tmp_path / "prompts.jsonl", seed=2)
    lines = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert {line["latent"] for line in lines} == {3, *range(6, 140), 190}  # 5 never fires
    explain, detect = (line for line in lines if line["latent"] == 3)
    latent = next(one for one in groups[1].latents if one.index == 3)
    assert (explain["task"], detect["task"]) == ("explain", "detect")
    best = latent.contexts[0]
    piece = best.pieces[best.peak]
    assert f"<<{piece}>>" in explain["prompt"]
    assert f"{piece.strip()!r}: 9" in explain["prompt"]
    filled = detect["prompt"].replace("{explanation}", "of words")
    assert "explained as: of words" in filled
    assert "{" not in filled
    assert sum(detect["labels"]) == 5
    assert detect["labels"].count(0) == min(5, len(silent[3]))
    numbered = [line for line in detect["prompt"].splitlines() if line[:1].isdigit()]
    assert len(numbered) == len(detect["labels"])
    shown = {"".join(context.pieces) for context in latent.contexts}
    for line, label in zip(numbered, detect["labels"], strict=True):
        assert (eval(line.split(". ", 1)[1]) in shown) == bool(label)
    again = write_prompts(groups, silent, tmp_path / "again.jsonl", seed=2)
    assert again.read_text() == file.read_text()


def test_silent_passages_are_silent(sae, passages):
    found = silent_passages(sae, passages, [3, 190], Words(), seed=1)
    rows = torch.cat([batch for _, batch in passages.batches()])
    active = sae.encode(rows) != 0
    texts = [f" w{index}" for index in passages.ids.tolist()]
    for latent, own in found.items():
        for text in own:
            length = text.count(" w")
            places = [
                at
                for at in range(len(texts) - length + 1)
                if "".join(texts[at : at + length]) == text
            ]
            assert any(not active[at : at + length, latent].any() for at in places)


def test_what_is_refused(sae, groups, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file"):
        write_neuronpedia(groups, sae.W_dec.detach(), TEXT, tmp_path / "file")
    with pytest.raises(ValueError, match="needs dashboards"):
        write_neuronpedia((), sae.W_dec.detach(), TEXT, tmp_path / "out")
    with pytest.raises(ValueError, match="latents that fire"):
        write_prompts((), {}, tmp_path / "x.jsonl")
    save_sae(sae, tmp_path / "sae")
    for name in ("neuronpedia", "prompts"):
        with pytest.raises(ValueError, match="need dashboards"):
            write_report(tmp_path / "sae", out=tmp_path / "r.html", **{name: tmp_path / "y"})
    narrow = save_sae(SparseAutoencoder(SAEConfig(8, 16, k=2)), tmp_path / "narrow")
    with pytest.raises(ValueError, match="width 16 and 8"):
        write_report(tmp_path / "sae", out=tmp_path / "r.html", against=narrow)
    with pytest.raises(FileNotFoundError):
        write_report(tmp_path / "sae", out=tmp_path / "r.html", against=tmp_path / "nowhere")
