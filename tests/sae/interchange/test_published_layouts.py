"""Formats of libraries that cannot be installed here, against their published formulas."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from foreign_layouts import (
    D_IN,
    D_OUT,
    D_SAE,
    ROWS,
    X,
    check,
    gemma,
    gemma_1,
    openai,
    randn,
)
from sparsact.sae import (
    TrainedOn,
    load,
)


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
