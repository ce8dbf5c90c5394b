"""``sparsact sae`` with autoencoders of other libraries, and on what they were not trained on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsact.sae import (
    SAEConfig,
    SparseAutoencoder,
    TrainedOn,
    harvest,
    load_saelens,
    pack_tokens,
    save_sae,
)
from tiny_language import WIDTH, WORDS, llama, save_tiny_model

PEERS = Path(__file__).parents[1] / "sae" / "peers"


@pytest.fixture
def sae(sparsact):
    """Runs one of its commands, with the output on one line."""

    def run(*arguments):
        status, shown, error = sparsact("sae", *arguments)
        return status, " ".join(shown.split()), " ".join(error.split())

    return run


@pytest.mark.parametrize("name", ["dictionary_learning_AutoEncoderTopK", "saelens_topk"])
def test_other_libraries_are_measured_and_exported(name, sae, tmp_path):
    np.save(tmp_path / "x.npy", torch.randn(50, 6).numpy())
    status, shown, error = sae("eval", PEERS / name, "--data", tmp_path / "x.npy")
    assert status == 0, error
    assert "inputs 50" in shown
    assert "dead unknown" in shown
    status, _, error = sae("export", PEERS / name, tmp_path / "out")
    assert status == 0, error
    assert load_saelens(tmp_path / "out").config.k == 3
    metadata = json.loads((tmp_path / "out" / "cfg.json").read_text())["metadata"]
    recorded = "dictionary" in name
    assert ("model_name" in metadata) == ("hook_name" in metadata) == recorded


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """A model, a text, and an autoencoder that was trained on layer 1 of the model."""
    folder = tmp_path_factory.mktemp("language")
    save_tiny_model(folder / "model")
    (folder / "text.txt").write_text(" ".join(WORDS[2:40] * 6))
    sae = SparseAutoencoder(SAEConfig(WIDTH, 48, k=4))
    model = type(llama()).from_pretrained(folder / "model")
    sae.trained_on = TrainedOn.of(model, "model.layers.1", name="tiny")
    save_sae(sae, folder / "sae")
    harvest(model, "model.layers.2", pack_tokens([*range(2, 40)] * 6, 16), folder / "acts")
    return folder


@pytest.mark.parametrize("verb", ["eval", "report"])
def test_another_layer_is_refused_unless_it_is_meant(verb, sae, places, tmp_path):
    reading = {"model": places / "model", "layer": "model.layers.2", "text": places / "text.txt"}
    flags = [part for name, value in reading.items() for part in (f"--{name}", value)]
    flags += ["--length", "16"]
    if verb == "report":
        flags += ["--out", tmp_path / "report.html", "--most", "1", "--sample", "0"]
    status, _, error = sae(verb, places / "sae", *flags)
    assert status == 2
    assert "trained on the output of 'model.layers.1' of tiny, not on the output of" in error
    assert "--no-check allows it" in error
    assert sae(verb, places / "sae", *flags, "--no-check")[0] == 0
    flags[3] = "model.layers.1"
    status, _, error = sae(verb, places / "sae", *flags)
    assert status == 0, error


def test_activations_of_another_layer_are_refused_unless_they_are_meant(sae, places):
    flags = ("eval", places / "sae", "--data", places / "acts")
    status, _, error = sae(*flags)
    assert status == 2
    assert "not on the output of 'model.layers.2'" in error
    assert sae(*flags, "--no-check")[0] == 0


def test_a_run_says_when_its_code_is_dense(sae, tmp_path):
    np.save(tmp_path / "x.npy", torch.randn(900, 16).numpy())
    flags = ("--data", tmp_path / "x.npy", "--d-sae", "64", "--batch-size", "64", "--steps", "8")
    status, shown, error = sae(
        *("train", *flags, "--held-out", "200", "--activation", "relu", "--out", tmp_path / "run")
    )
    assert status == 0, error
    assert "the code is not sparse" in shown
    assert "Set --target-l0" in shown
    assert "silent" in shown
