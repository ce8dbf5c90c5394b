"""Small files in the layouts of other libraries, made by their published formulas."""

from pathlib import Path

import numpy as np
import torch

PEERS = Path(__file__).parent / "sae" / "peers"

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
