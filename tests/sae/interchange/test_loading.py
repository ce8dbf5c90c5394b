"""`load`: what other libraries wrote, our own files, and its options."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file

import sparsact as sa
from foreign_layouts import (
    CLOSE,
    D_IN,
    D_OUT,
    D_SAE,
    PEERS,
    X,
)
from sparsact._common.errors import InputError, MissingInputError
from sparsact.sae import (
    SAEConfig,
    SAETrainer,
    SparseAutoencoder,
    TrainedOn,
    load,
    load_sae,
    save_sae,
    save_saelens,
)

MADE = sorted(path.name for path in PEERS.iterdir() if path.is_dir() and path.name[0] != "_")


@pytest.mark.parametrize("name", MADE)
def test_what_other_libraries_wrote_computes_the_same(name):
    sae = load(PEERS / name)
    expected = load_file(PEERS / name / "expected.safetensors")
    sae.train(("topk_training" in name and "saelens_topk" not in name) or "matryoshka_t" in name)
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(expected["x"]), expected["latents"], **CLOSE)
        torch.testing.assert_close(sae(expected["x"]), expected["rebuilt"], **CLOSE)


def test_every_class_of_dictionary_learning_has_a_fixture():
    prefix = "dictionary_learning_"
    found = {name.removeprefix(prefix) for name in MADE if name.startswith(prefix)}
    assert found == set(sa.sae.interchange.dictionary_learning_import.KINDS)


def test_our_own_and_the_directory_of_a_run(tmp_path):
    sae = SparseAutoencoder(SAEConfig(D_IN, D_SAE, k=3))
    sae.trained_on = TrainedOn("small", "layers.1", skip=1, weights={"a.weight": (0.5, 1.5)})
    save_sae(sae, tmp_path / "run" / "sae")
    for path in (tmp_path / "run", tmp_path / "run" / "sae", tmp_path / "run/sae/sae.safetensors"):
        loaded = load(path)
        assert torch.equal(loaded.W_dec, sae.W_dec)
        assert loaded.trained_on == sae.trained_on
    assert load(tmp_path, subfolder="run").config == sae.config


@pytest.mark.parametrize("normalize", ["layer_norm", "unit_norm"])
@pytest.mark.parametrize("save", [save_sae, save_saelens])
def test_a_normalisation_is_saved(normalize, save, tmp_path):
    sae = SparseAutoencoder(SAEConfig(D_IN, D_SAE, k=3, normalize=normalize)).eval()
    loaded = load(save(sae, tmp_path / "x"))
    assert loaded.config.normalize == normalize
    torch.testing.assert_close(loaded(X), sae(X), **CLOSE)
    # the normalised inputs have norm √d or so; the reconstruction is in raw units
    torch.testing.assert_close(sae(3 * X), 3 * sae(X), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("kind", ["relu", "jumprelu"])
@pytest.mark.parametrize("save", [save_sae, save_saelens])
def test_a_skip_connection_is_saved(kind, save, tmp_path):
    sae = SparseAutoencoder(SAEConfig(D_IN, D_SAE, kind, d_out=D_OUT, skip=True)).eval()
    torch.nn.init.normal_(sae.W_skip)
    loaded = load(save(sae, tmp_path / "x"))
    torch.testing.assert_close(loaded(X), sae(X), **CLOSE)
    torch.testing.assert_close(sae(X) - sae.decode(sae.encode(X)), X @ sae.W_skip.T, **CLOSE)


def test_files_without_the_new_settings_stay_as_they_were(tmp_path):
    save_sae(SparseAutoencoder(SAEConfig(D_IN, D_SAE, k=3)), tmp_path / "x")
    settings = json.loads((tmp_path / "x" / "config.json").read_text())
    assert list(settings) == ["d_in", "d_sae", "activation", "k", "d_out", "bandwidth"]


def test_what_can_be_read_only_is_not_trained():
    for norm in ("layer_norm", "unit_norm"):
        sae = SparseAutoencoder(SAEConfig(D_IN, D_SAE, k=3, normalize=norm))
        with pytest.raises(InputError, match="can be used, but not trained"):
            SAETrainer(sae)


def test_missing_companions_and_wrong_options(tmp_path):
    shutil.copy(PEERS / "dictionary_learning_AutoEncoder" / "ae.pt", tmp_path)
    with pytest.raises(MissingInputError, match=r"holds no config\.json"):
        load(tmp_path)
    with pytest.raises(InputError, match="activation= is for a custom kind"):
        load(PEERS / "saelens_topk", activation=torch.nn.ReLU())
    with pytest.raises(InputError, match="revision=x is for a name on the hub"):
        load(PEERS / "saelens_topk", revision="x")
    with pytest.raises(InputError, match=r"known format.*_AutoEncoder, .*subfolder="):
        load(PEERS)
    with pytest.raises(InputError, match="known format"):
        load(PEERS / "make.py")


def test_a_custom_kind_is_loaded_with_its_module(tmp_path):
    sae = SparseAutoencoder(SAEConfig(4, 8, "custom"), sa.nn.Softshrink(0.3, learnable=True))
    save_sae(sae, tmp_path / "sae")
    loaded = load(tmp_path / "sae", activation=sa.nn.Softshrink(0.0, learnable=True))
    assert torch.equal(loaded.activation.lambd, sae.activation.lambd)
    assert load_sae(tmp_path / "sae", sa.nn.Softshrink(0.0, learnable=True)).config == sae.config
