"""Autoencoders in a running model, compared with the same model written out by hand."""

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from attached_models import LAYERS, ByHand, autoencoder, logits
from sparsact.sae import attach
from tiny_language import gpt2, llama


@pytest.mark.parametrize("kind", ["relu", "topk", "batch_topk", "jumprelu", "gated", "softshrink"])
@pytest.mark.parametrize("make", [llama, gpt2])
def test_the_three_modes(kind, make):
    model, sae = make(), autoencoder(kind)
    layer = "model.layers.1" if make is llama else "transformer.h.1"
    dense = logits(model)
    with attach(model, {layer: sae}) as sites:
        assert (logits(model) - dense).abs().max() <= 1e-6
        assert sites[layer].latents.shape == (2, 9, 64)
        latents = sites[layer].latents.detach()
    with attach(model, {layer: sae}, mode="read") as sites:
        assert torch.equal(logits(model), dense)
        assert torch.equal(sites[layer].latents, latents)
    sae.eval()
    with attach(model, {layer: sae}, mode="replace"):
        replaced = logits(model)
    with ByHand(model.get_submodule(layer), sae):
        assert torch.equal(replaced, logits(model))
    assert (replaced - dense).abs().max() > 1e-3
    assert torch.equal(logits(model), dense)


def test_a_model_in_bfloat16_is_unchanged(model):
    narrow, sae = llama().bfloat16(), autoencoder()
    with attach(narrow, {LAYERS[1]: sae}) as sites:
        found = logits(narrow)
        assert sites[LAYERS[1]].latents.dtype == torch.float32
    assert torch.equal(found, logits(narrow))
    with attach(narrow, {LAYERS[1]: sae}, mode="replace"):
        assert logits(narrow).dtype == torch.bfloat16


def edited_by_hand(sae, edit, mode):
    def function(x):
        latents = sae.encode(x)
        rebuilt = sae.decode(edit(latents))
        return rebuilt if mode == "replace" else x + rebuilt - sae.decode(latents)

    return function


EDITS = {
    "edit": (lambda s: s.edit(lambda z: z * 2 + 1), lambda z: z * 2 + 1),
    "in place": (lambda s: s.edit(lambda z: z[..., 5].fill_(3) is None or z), None),
    "ablate": (
        lambda s: s.ablate([1, 5]),
        lambda z: z.index_fill(-1, torch.tensor([1, 5]), 0.0),
    ),
    "clamp": (lambda s: s.clamp({5: 3.0}), None),
    "keep_only": (
        lambda s: s.keep_only(range(0, 64, 2)),
        lambda z: z * (torch.arange(64) % 2 == 0),
    ),
    "steer": (lambda s: s.steer({5: 3.0, 7: -1.0}), None),
    "two": (lambda s: s.clamp({5: 1.0}).steer({5: 2.0}), None),
    "none": (lambda s: s.ablate([]), lambda z: z),
    "reset": (lambda s: s.clamp({5: 9.0}).reset(), lambda z: z),
}


def five_is_three(z):
    z = z.clone()
    z[..., 5] = 3
    return z


def steered(z):
    z = z.clone()
    z[..., 5] += 3
    z[..., 7] -= 1
    return z


BY_HAND = {
    "in place": five_is_three,
    "clamp": five_is_three,
    "two": five_is_three,
    "steer": steered,
}


@pytest.mark.parametrize("mode", ["replace", "error"])
@pytest.mark.parametrize("name", EDITS)
def test_edits(name, mode, model):
    sae = autoencoder("relu").eval()
    change, by_hand = EDITS[name]
    by_hand = by_hand or BY_HAND[name]
    with attach(model, {LAYERS[0]: sae}, mode) as sites, torch.no_grad():
        change(sites[LAYERS[0]])
        found = logits(model)
        unedited = sites[LAYERS[0]].latents
    seen = []
    with ByHand(model.get_submodule(LAYERS[0]), edited_by_hand(sae, by_hand, mode)):
        torch.testing.assert_close(found, logits(model), atol=1e-4, rtol=1e-4)
    with ByHand(model.get_submodule(LAYERS[0]), lambda x: seen.append(x) or x):
        logits(model)
    assert torch.equal(unedited, sae.encode(seen[0]))


def test_gradients_to_latents_are_the_effect_of_adding_to_them(model):
    """As autograd finds without the library; the gradient of the model itself is unchanged."""
    model, sae = llama().double(), autoencoder("relu").double()

    def metric():
        return logits(model)[0, -1, 3]

    grads = []
    for attached in (True, False):
        model.zero_grad()
        if attached:
            with attach(model, dict.fromkeys(LAYERS, sae)) as sites:
                metric().backward()
                effect = sites[LAYERS[0]].latents.grad
                latents = sites[LAYERS[0]].latents
        else:
            metric().backward()
        grads.append(model.model.embed_tokens.weight.grad.clone())
    torch.testing.assert_close(grads[0], grads[1], atol=1e-9, rtol=1e-7)
    for latent in (int(latents[0, 4].argmax()), int(latents[0, 4].argmin())):
        added = torch.zeros(2, 9, 1, dtype=torch.float64, requires_grad=True)
        module = model.get_submodule(LAYERS[0])
        with ByHand(module, lambda x, a=added, k=latent: x + a * sae.W_dec[k] / sae.scale_out):
            (expected,) = torch.autograd.grad(metric(), added)
        torch.testing.assert_close(effect[..., latent], expected[..., 0], atol=1e-9, rtol=1e-6)


def test_gradients_of_a_frozen_model_reach_the_latents():
    model, sae = llama().requires_grad_(False), autoencoder().requires_grad_(False)
    with attach(model, {LAYERS[0]: sae}, "replace") as sites:
        value = logits(model).sum()
        (grad,) = torch.autograd.grad(value, sites[LAYERS[0]].latents)
    assert grad.abs().sum() > 0
    with attach(model, {LAYERS[0]: sae}) as sites, torch.inference_mode():
        logits(model)
        assert not sites[LAYERS[0]].latents.requires_grad


def test_several_autoencoders_read_what_the_earlier_ones_change(model):
    first, second = autoencoder(seed=1).eval(), autoencoder("relu", seed=2).eval()
    with attach(model, dict(zip(LAYERS, (first, second), strict=True)), "replace") as sites:
        found = logits(model)
        assert (len(sites), list(sites)) == (2, list(LAYERS))
    with (
        ByHand(model.get_submodule(LAYERS[0]), first),
        ByHand(model.get_submodule(LAYERS[1]), second),
    ):
        assert torch.equal(found, logits(model))


def test_a_model_that_is_compiled_afterwards():
    net, sae = nn.Sequential(nn.Linear(5, 8), nn.Linear(8, 2)), autoencoder(width=8)
    x = torch.ones(3, 5)
    with attach(net, {"0": sae}) as sites, torch.no_grad():
        sites["0"].clamp({3: 40.0})
        expected = net(x)
        compiled = torch.compile(net, backend="eager")
        torch.testing.assert_close(compiled(x), expected, atol=1e-5, rtol=1e-5)
    torch.compiler.reset()


def test_checkpointing_reaches_the_latents():
    """The forward of the layer runs again in the backward."""
    first, last = nn.Linear(5, 8), nn.Linear(8, 1)

    class Model(nn.Module):
        reentrant = None

        def __init__(self):
            super().__init__()
            self.first, self.last = first, last

        def forward(self, x):
            if self.reentrant is None:
                return self.last(self.first(x))
            return self.last(checkpoint(self.first, x, use_reentrant=self.reentrant))

    model, sae, grads = Model(), autoencoder("relu", width=8), []
    x = torch.randn(3, 5, requires_grad=True)
    for model.reentrant in (None, False, True):
        with attach(model, {"first": sae}, "replace") as sites:
            model(x).sum().backward()
            grads.append(sites["first"].latents.grad)
            assert sites["first"].calls == 1
    torch.testing.assert_close(grads, [grads[0]] * 3)


def test_the_input_of_a_module(model):
    sae = autoencoder("relu").eval()
    with attach(model, {"model.layers.1.mlp": sae}, "replace", site="input") as sites:
        found = logits(model)
        assert sites["model.layers.1.mlp"].latents.shape == (2, 9, 64)
    mlp = model.get_submodule("model.layers.1.mlp")
    handle = mlp.register_forward_pre_hook(lambda m, args: (sae(args[0]),))
    try:
        assert torch.equal(found, logits(model))
    finally:
        handle.remove()


@pytest.mark.parametrize("skip_connection", [False, True])
def test_a_transcoder_takes_the_place_of_a_module(skip_connection, model):
    sae = autoencoder("relu", d_out=32, skip=skip_connection).eval()
    if skip_connection:
        nn.init.normal_(sae.W_skip)
    name = "model.layers.1.mlp"
    with attach(model, {name: sae}, "replace"):
        found = logits(model)
    handle = model.get_submodule(name).register_forward_hook(lambda m, args, out: sae(args[0]))
    try:
        assert torch.equal(found, logits(model))
    finally:
        handle.remove()
    with attach(model, {name: sae}, "error"):
        assert torch.equal(logits(model), logits(model))


@pytest.mark.parametrize("normalize", ["layer_norm", "unit_norm"])
def test_normalised_inputs(normalize, model):
    sae = autoencoder("topk", normalize=normalize).eval()
    dense = logits(model)
    with attach(model, {LAYERS[1]: sae}):
        assert (logits(model) - dense).abs().max() <= 1e-6
    with attach(model, {LAYERS[1]: sae}, "replace"):
        replaced = logits(model)
    with ByHand(model.get_submodule(LAYERS[1]), sae):
        assert torch.equal(replaced, logits(model))


def test_other_models_than_language_models():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(2), nn.LazyLinear(8), nn.Linear(8, 2))
    x = torch.randn(3, 1, 6, 6)
    expected = net(x)
    with attach(net, {"2": autoencoder(width=8)}) as sites:
        torch.testing.assert_close(net(x), expected)
        assert sites["2"].latents.shape == (3, 4, 64)


def test_modes_hooks_and_weights_are_given_back(model):
    sae = autoencoder("batch_topk").train()
    before = {name: value.clone() for name, value in sae.state_dict().items()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
    with attach(model, {LAYERS[0]: sae}):
        logits(model)
        assert not sae.training
    assert sae.training
    assert all(torch.equal(value, before[name]) for name, value in sae.state_dict().items())
    assert hooks == [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()]
