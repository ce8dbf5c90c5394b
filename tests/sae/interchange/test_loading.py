"""`load`: the formats it recognises, on disk and on the hub, and what it refuses."""

import json
import math
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import sparsact as sa
from sparsact._common.errors import InputError, MissingInputError
from sparsact.sae import (
    SAEConfig,
    SAETrainer,
    SparseAutoencoder,
    TrainedOn,
    load,
    load_sae,
    load_saelens,
    save_sae,
    save_saelens,
)

PEERS = Path(__file__).parents[1] / "peers"
MADE = sorted(path.name for path in PEERS.iterdir() if path.is_dir() and path.name[0] != "_")
D_IN, D_OUT, D_SAE, ROWS = 6, 5, 16, 9
CLOSE = {"atol": 1e-5, "rtol": 1e-5}


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


X = randn(ROWS, D_IN) + 1


def check(sae, latents, rebuilt):
    assert not sae.training
    assert not sae.is_fresh
    with torch.no_grad():
        torch.testing.assert_close(sae.encode(X), latents, **CLOSE)
        torch.testing.assert_close(sae(X), rebuilt, **CLOSE)
        torch.testing.assert_close(sae.rebuild(sae.encode(X), X), rebuilt, **CLOSE)
    assert bool((latents > 0).any(0).sum() > 3)


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


# Gemma Scope


def gemma(d_out=D_IN):
    arrays = {
        "w_enc": randn(D_IN, D_SAE),
        "b_enc": randn(D_SAE),
        "w_dec": randn(D_SAE, d_out),
        "b_dec": randn(d_out),
        "threshold": randn(D_SAE).abs(),
    }
    pre = X @ arrays["w_enc"] + arrays["b_enc"]
    latents = pre.relu() * (pre > arrays["threshold"])
    return arrays, latents, latents @ arrays["w_dec"] + arrays["b_dec"]


def gemma_1(folder, arrays, **more):
    folder.mkdir(parents=True)
    np.savez(
        folder / "params.npz", **{name: value.numpy() for name, value in arrays.items()}, **more
    )
    return folder


@pytest.mark.parametrize("capital", [False, True])
def test_gemma_scope(capital, tmp_path):
    arrays, latents, rebuilt = gemma()
    if capital:
        arrays = {name.replace("w_", "W_"): value for name, value in arrays.items()}
    place = "gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_71"
    folder = gemma_1(tmp_path / place, arrays, scaling_factor=np.ones(D_SAE, np.float32))
    for path in (folder, folder / "params.npz"):
        check(load(path), latents, rebuilt)
    assert load(folder).trained_on == TrainedOn("google/gemma-2-2b", "blocks.12.hook_resid_post")


def test_a_transcoder_of_gemma_scope(tmp_path):
    arrays, latents, rebuilt = gemma(D_OUT)
    sae = load(gemma_1(tmp_path / "gemma-scope-2b-pt-transcoders" / "layer_3", arrays))
    assert sae.config.d_out == D_OUT
    check(sae, latents, rebuilt)


def test_other_directories_do_not_change_what_a_file_is(tmp_path):
    arrays, latents, rebuilt = gemma()
    sae = load(gemma_1(tmp_path / "my_embedding_of_transcoders" / "gemma" / "layer_3", arrays))
    assert not sae.config.is_transcoder
    check(sae, latents, rebuilt)


def test_the_embedding_of_gemma_scope(tmp_path):
    arrays, *_ = gemma()
    sae = load(gemma_1(tmp_path / "embedding" / "width_4k", arrays))
    pre = X / math.sqrt(D_IN) @ arrays["w_enc"] + arrays["b_enc"]
    latents = pre.relu() * (pre > arrays["threshold"])
    check(sae, latents, latents @ arrays["w_dec"] * math.sqrt(D_IN) + arrays["b_dec"])


@pytest.mark.parametrize("place", ["resid_post/layer_9", "transcoder/layer_9"])
def test_gemma_scope_2(place, tmp_path):
    arrays, latents, rebuilt = gemma()
    folder = tmp_path / place
    folder.mkdir(parents=True)
    settings = {"architecture": "jump_relu", "model_name": "gemma-v3-1b-pt"}
    settings["hf_hook_point_in"] = "model.layers.9.output"
    if "transcoder" in place:
        arrays["affine_skip_connection"] = randn(D_IN, D_IN)
        rebuilt = rebuilt + X @ arrays["affine_skip_connection"].T
    save_file(arrays, folder / "params.safetensors")
    (folder / "config.json").write_text(json.dumps(settings))
    sae = load(folder)
    check(sae, latents, rebuilt)
    assert sae.config.skip == ("transcoder" in place)
    assert sae.trained_on == TrainedOn("gemma-v3-1b-pt", "model.layers.9")


# Llama Scope


@pytest.mark.parametrize("with_norm", [False, True])
@pytest.mark.parametrize("subtracts", [False, True])
def test_llama_scope(with_norm, subtracts, tmp_path):
    encoder, bias = randn(D_SAE, D_IN), randn(D_SAE)
    decoder, decoder_bias = randn(D_IN, D_SAE, seed=1), randn(D_IN)
    settings = {
        "d_model": D_IN,
        "d_sae": D_SAE,
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.7,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": 3.5, "out": 3.5},
        "sparsity_include_decoder_norm": with_norm,
        "apply_decoder_bias_to_pre_encoder": subtracts,
        "hook_point_in": "blocks.15.hook_resid_post",
        "hook_point_out": "blocks.15.hook_resid_post",
    }
    (tmp_path / "checkpoints").mkdir()
    names = ("encoder.weight", "encoder.bias", "decoder.weight", "decoder.bias")
    values = (encoder, bias, decoder, decoder_bias)
    save_file(dict(zip(names, values, strict=True)), tmp_path / "checkpoints/final.safetensors")
    (tmp_path / "hyperparams.json").write_text(json.dumps(settings))
    factor = math.sqrt(D_IN) / 3.5
    normalized = X * factor - (decoder_bias if subtracts else 0)
    length = decoder.norm(dim=0) if with_norm else torch.ones(D_SAE)
    raw = (normalized @ encoder.T + bias) / factor * length  # in units of the raw activations
    latents = raw.where(raw > 0.7, 0)
    rebuilt = (latents / length * factor @ decoder.T + decoder_bias) / factor
    check(load(tmp_path), latents, rebuilt)
    assert load(tmp_path).trained_on.layer == "blocks.15.hook_resid_post"


def test_a_threshold_for_each_latent_of_lm_saes(tmp_path):
    tensors = {"encoder.weight": randn(D_SAE, D_IN), "encoder.bias": randn(D_SAE)}
    tensors |= {"decoder.weight": randn(D_IN, D_SAE, seed=1), "decoder.bias": randn(D_IN)}
    tensors["log_jumprelu_threshold"] = randn(D_SAE, seed=2)
    save_file(tensors, tmp_path / "sae_weights.safetensors")
    settings = {"act_fn": "jumprelu", "norm_activation": "inference"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    pre = X @ tensors["encoder.weight"].T + tensors["encoder.bias"]
    latents = pre.where(pre > tensors["log_jumprelu_threshold"].exp(), 0)
    check(load(tmp_path), latents, latents @ tensors["decoder.weight"].T + tensors["decoder.bias"])


# OpenAI


def openai(activation):
    content = {
        "pre_bias": randn(D_IN),
        "encoder.weight": randn(D_SAE, D_IN),
        "latent_bias": randn(D_SAE),
        "decoder.weight": randn(D_IN, D_SAE, seed=1),
        "stats_last_nonzero": torch.zeros(D_SAE, dtype=torch.long),
        "latents_activation_frequency": torch.ones(D_SAE),
        "latents_mean_square": torch.zeros(D_SAE),
        "activation": activation,
    }
    if activation == "TopK":
        content["activation_state_dict"] = {"k": 4, "postact_fn": "ReLU"}
    return content


@pytest.mark.parametrize("activation", ["ReLU", "TopK"])
def test_the_autoencoders_of_openai(activation, tmp_path):
    content = openai(activation)
    torch.save(content, tmp_path / "8.pt")
    mean, std = torch.zeros(ROWS, 1), torch.ones(ROWS, 1)
    x = X
    if activation == "TopK":
        mean, std = X.mean(1, keepdim=True), X.std(1, keepdim=True)
        x = (X - mean) / (std + 1e-5)
    pre = (x - content["pre_bias"]) @ content["encoder.weight"].T + content["latent_bias"]
    if activation == "TopK":
        largest = pre.topk(4, dim=1)
        pre = torch.zeros_like(pre).scatter(1, largest.indices, largest.values)
    latents = pre.relu()
    rebuilt = latents @ content["decoder.weight"].T + content["pre_bias"]
    check(load(tmp_path / "8.pt"), latents, rebuilt * std + mean)


# Our own, and where they are


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
    for sae in (
        SparseAutoencoder(SAEConfig(D_IN, D_SAE, k=3, normalize="layer_norm")),
        SparseAutoencoder(SAEConfig(D_IN, D_SAE, k=3, d_out=D_OUT, skip=True)),
    ):
        with pytest.raises(InputError, match="can be used, but not trained"):
            SAETrainer(sae)


# The hub


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub that holds one repository at two revisions; there is no network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "hub" / "models--someone--autoencoders"
    (folder / "refs").mkdir(parents=True)
    for name, commit, source in (("main", "a" * 40, "topk"), ("old", "b" * 40, "standard")):
        (folder / "refs" / name).write_text(commit)
        snapshot = folder / "snapshots" / commit
        shutil.copytree(PEERS / f"saelens_{source}", snapshot / "layers" / "15")
    shutil.copytree(PEERS / "sparsify_topk", folder / "snapshots" / ("a" * 40), dirs_exist_ok=True)
    return folder


def test_names_on_the_hub(hub):
    assert load("someone/autoencoders").config.k == 3
    topk = load_saelens(PEERS / "saelens_topk")
    for sae in (
        load("someone/autoencoders", subfolder="layers/15"),
        load("someone/autoencoders/layers/15"),
        load("someone/autoencoders/layers", subfolder="15", revision="main"),
    ):
        assert torch.equal(sae.W_dec, topk.W_dec)
    old = load("someone/autoencoders", revision="old", subfolder="layers/15")
    assert old.config.activation == "relu"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("someone/else", {}, "no autoencoder 'someone/else'"),
        ("someone/autoencoders", {"revision": "no"}, "'someone/autoencoders' at revision 'no'"),
        ("someone/autoencoders", {"subfolder": "layers/16"}, "no layers/16.*subfolder="),
        (
            "someone/autoencoders",
            {"revision": "old"},
            "holds no autoencoder.*layers/15.*subfolder=",
        ),
        ("nothing", {}, "nothing does not exist, and is no name on the hub"),
        ("./some/where", {}, "does not exist"),
        ("/some/where", {"subfolder": "x"}, "/some/where/x does not exist"),
        ("some one/else", {}, "does not exist"),
    ],
)
def test_names_that_the_hub_does_not_have(name, options, message, hub):
    with pytest.raises(InputError, match=message):
        load(name, **options)


# What is refused


class Code:
    """Its pickle makes a directory when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


@pytest.mark.parametrize("name", ["ae.pt", "8.pt"])
@pytest.mark.parametrize("protocol", ["torch.save", "pickle"])
def test_a_pickle_that_would_run_code_is_refused(name, protocol, tmp_path):
    content = {"pre_bias": torch.zeros(3), "x": Code(tmp_path / "ran")}
    if protocol == "pickle":
        (tmp_path / name).write_bytes(pickle.dumps(content))
    else:
        torch.save(content, tmp_path / name)
    (tmp_path / "config.json").write_text('{"trainer": {"dict_class": "AutoEncoder"}}')
    with pytest.raises(InputError, match=rf"{name} is refused.*would run the code"):
        load(tmp_path / name)
    assert not (tmp_path / "ran").exists()


def test_an_array_that_would_run_code_is_refused(tmp_path):
    arrays, *_ = gemma()
    folder = gemma_1(tmp_path / "x", arrays, more=np.array([Code(tmp_path / "ran")], object))
    with pytest.raises(InputError, match=r"params\.npz is not a complete"):
        load(folder)
    assert not (tmp_path / "ran").exists()


def with_settings(name, **changes):
    def make(folder):
        shutil.copytree(PEERS / name, folder)
        file = folder / ("config.json" if name.startswith("dictionary") else "cfg.json")
        settings = json.loads(file.read_text())
        (settings["trainer"] if name.startswith("dictionary") else settings).update(changes)
        file.write_text(json.dumps(settings))

    return make


def dictionary(change):
    def make(folder):
        shutil.copytree(PEERS / "dictionary_learning_AutoEncoderTopK", folder)
        content = torch.load(folder / "ae.pt", weights_only=True)
        torch.save(change(content), folder / "ae.pt")

    return make


def gemma_with(**changes):
    def make(folder):
        arrays = gemma()[0] | {name: torch.as_tensor(value) for name, value in changes.items()}
        gemma_1(folder, {name: value for name, value in arrays.items() if value.numel()})

    return make


def openai_with(**changes):
    def make(folder):
        folder.mkdir()
        content = openai("TopK") | changes
        torch.save({name: v for name, v in content.items() if v is not None}, folder / "8.pt")
        return folder / "8.pt"

    return make


def texts(**files):
    def make(folder):
        folder.mkdir()
        for name, text in files.items():
            (folder / name.replace("_DOT_", ".")).write_text(text)

    return make


def llama_with(**changes):
    def make(folder):
        (folder / "checkpoints").mkdir(parents=True)
        tensors = {"encoder.weight": randn(D_SAE, D_IN), "encoder.bias": randn(D_SAE)}
        tensors |= {"decoder.weight": randn(D_IN, D_SAE), "decoder.bias": randn(D_IN)}
        save_file(tensors, folder / "checkpoints" / "final.safetensors")
        settings = {"act_fn": "jumprelu", "jump_relu_threshold": 0.5, **changes}
        (folder / "hyperparams.json").write_text(json.dumps(settings))

    return make


BAD = {
    "nothing": (texts(), "holds no autoencoder of a known format.*It holds nothing"),
    "text": (texts(a_DOT_txt="x"), "It holds a.txt"),
    "an unknown class": (
        with_settings("dictionary_learning_AutoEncoder", dict_class="CrossCoder"),
        "CrossCoder of dictionary_learning.*AutoEncoder",
    ),
    "no class": (with_settings("dictionary_learning_AutoEncoder", dict_class=None), "a None of"),
    "another class": (
        with_settings("dictionary_learning_AutoEncoderTopK", dict_class="GatedAutoEncoder"),
        "holds no r_mag",
    ),
    "a tensor too many": (dictionary(lambda c: c | {"x": torch.ones(3)}), "also holds x"),
    "a tensor too few": (
        dictionary(lambda c: {n: v for n, v in c.items() if n != "b_dec"}),
        "holds no b_dec",
    ),
    "another width": (dictionary(lambda c: c | {"b_dec": torch.ones(3)}), r"must be \(6,\)"),
    "a list": (dictionary(lambda c: [1, 2]), "must hold a dictionary of tensors, not list"),
    "a vector": (dictionary(lambda c: c | {"encoder.weight": torch.ones(3)}), "must be a matrix"),
    "k is too large": (dictionary(lambda c: c | {"k": torch.tensor(17)}), "k=17 exceeds"),
    "half a pickle": (texts(ae_DOT_pt="x" * 90), "ae.pt is (refused|not a complete)"),
    "an empty pickle": (texts(ae_DOT_pt=""), "ae.pt is (refused|not a complete)"),
    "half an archive": (texts(params_DOT_npz="PK" * 90), "params.npz is not a complete"),
    "an empty archive": (texts(params_DOT_npz=""), "params.npz is not a complete"),
    "no threshold": (gemma_with(threshold=torch.zeros(0)), "holds no threshold"),
    "thresholds too few": (gemma_with(threshold=torch.ones(3)), r"threshold.*must be \(16,\)"),
    "a factor": (gemma_with(scaling_factor=2 * torch.ones(D_SAE)), "scaling_factor"),
    "an unknown array": (gemma_with(extra=torch.ones(3)), "also holds extra"),
    "widths that differ": (gemma_with(w_dec=torch.ones(16, 7)), r"w_dec.*must be \(16, 6\)"),
    "tanh": (openai_with(activation="Tanh"), "'Tanh'.*ReLU, TopK"),
    "another after the selection": (
        openai_with(activation_state_dict={"k": 3, "postact_fn": "Identity"}),
        "Identity",
    ),
    "no k": (openai_with(activation_state_dict=None), "k of the activation.*found None"),
    "no bias": (openai_with(latent_bias=None), "holds no latent_bias"),
    "unknown norm": (llama_with(norm_activation="token-wise"), "token-wise"),
    "no mean": (llama_with(norm_activation="dataset-wise"), "'in' and 'out'"),
    "gelu": (llama_with(act_fn="gelu"), "gelu"),
    "a gated encoder": (llama_with(use_glu_encoder=True), "gated linear encoder"),
    "no level": (llama_with(jump_relu_threshold="x"), "must be a number, found 'x'"),
    "Gemma 2 of another architecture": (
        texts(params_DOT_safetensors="", config_DOT_json='{"architecture": "topk"}'),
        "'topk'.*jump_relu",
    ),
    "another normalisation": (
        with_settings("saelens_topk", normalize_activations="whiten"),
        "whiten.*layer_norm",
    ),
    "a normalised transcoder": (
        with_settings("saelens_transcoder", normalize_activations="layer_norm"),
        "a transcoder cannot have normalize='layer_norm'",
    ),
    "our file without settings": (
        texts(sae_DOT_safetensors="", config_DOT_json="{}"),
        "does not describe an autoencoder|not a complete",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_one_clear_error(name, tmp_path):
    make, message = BAD[name]
    path = make(tmp_path / "x") or tmp_path / "x"
    with pytest.raises(InputError, match=message):
        load(path)


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
