"""Autoencoders in a running model, compared with the same model written out by hand."""

import math

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sparsact._common.errors import InputError
from sparsact.sae import SAEConfig, SparseAutoencoder, TrainedOn, attach, steer
from tiny_language import gpt2, llama

LAYERS = ("model.layers.0", "model.layers.1")
IDS = torch.randint(3, 32, (2, 9), generator=torch.Generator().manual_seed(0))


def autoencoder(kind="topk", width=32, seed=0, **options):
    torch.manual_seed(seed)
    sae = SparseAutoencoder(SAEConfig(width, 64, kind, **{"k": 8, **options}))
    sae.b_dec.data.normal_()
    sae.encoder.bias.data.normal_()
    return sae


@pytest.fixture(scope="module")
def model():
    return llama()


def logits(model, **inputs):
    return model(**{"input_ids": IDS, **inputs}).logits


class ByHand:
    """Replaces the output of a layer by a function of it, without the library."""

    def __init__(self, module, function):
        self.handle = module.register_forward_hook(lambda m, args, out: self.new(function, out))

    @staticmethod
    def new(function, out):
        return (function(out[0]), *out[1:]) if isinstance(out, tuple) else function(out)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.handle.remove()


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


def padded(side):
    """Two texts of 9 and 6 tokens."""
    ids, mask = IDS.clone(), torch.ones_like(IDS)
    part = slice(6, None) if side == "right" else slice(0, 3)
    if side == "left":
        ids[1] = IDS[1].roll(3)
    ids[1, part], mask[1, part] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("skip", [0, 1, 2])
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_and_leading_tokens_do_not_count(side, skip, model):
    sae = autoencoder("relu").eval()
    inputs = padded(side)
    seen = []
    with attach(model, {LAYERS[0]: sae}, "replace", skip=skip) as sites, torch.no_grad():
        with ByHand(model.get_submodule(LAYERS[0]), lambda x: seen.append(x) or x):
            logits(model, **inputs)
        latents = sites[LAYERS[0]].latents
    with torch.no_grad(), ByHand(model.get_submodule(LAYERS[0]), lambda x: seen.append(x) or x):
        logits(model, **inputs)
    first = 3 if side == "left" else 0
    counts = torch.zeros(2, 9, dtype=torch.bool)
    counts[0, skip:] = counts[1, first + skip : first + 6] = True
    assert torch.equal(latents != 0, (sae.encode(seen[1]) != 0) & counts[..., None])
    assert torch.equal((seen[0] == seen[1]).all(-1), ~counts)


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("mode", ["error", "replace"])
def test_generate_with_a_cache_is_the_same_as_without(cache, mode, model):
    sae = autoencoder("relu").eval()
    options = {"max_new_tokens": 6, "do_sample": False, "pad_token_id": 0, "eos_token_id": 31}
    with attach(model, {LAYERS[0]: sae}, mode, skip=1, record="all") as sites:
        sites[LAYERS[0]].clamp({3: 40.0})
        found = model.generate(**padded("left"), use_cache=cache, **options)
        calls, latents = sites[LAYERS[0]].calls, sites[LAYERS[0]].latents
        expected = padded("left")["input_ids"]
        mask = padded("left")["attention_mask"]
        for _ in range(found.shape[1] - 9):  # one forward over everything for each token
            output = model(
                input_ids=expected,
                attention_mask=mask,
                position_ids=(mask.cumsum(1) - 1).clamp(min=0),
            )
            expected = torch.cat([expected, output.logits[:, -1:].argmax(-1)], 1)
            mask = torch.cat([mask, torch.ones(2, 1, dtype=mask.dtype)], 1)
    assert torch.equal(found, expected)
    assert calls == found.shape[1] - 9
    if cache:
        assert latents.shape == (2, found.shape[1] - 1, 64)
    plain = model.generate(**padded("left"), use_cache=cache, **options)
    assert not torch.equal(plain, found)
    with attach(model, {LAYERS[0]: sae}, "error", skip=1):
        assert torch.equal(model.generate(**padded("left"), use_cache=cache, **options), plain)


@pytest.mark.parametrize("skip", [0, 1])
@pytest.mark.parametrize("eager", [False, True])
def test_a_static_cache_gives_the_latents_of_a_growing_one(eager, skip):
    """Its mask has four dims: bool, or large negative numbers with eager attention."""
    model, sae = llama(), autoencoder("relu").eval()
    if eager:
        model.set_attn_implementation("eager")
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, "eos_token_id": 31}
    found = []
    for static in ({}, {"cache_implementation": "static", "disable_compile": True}):
        with attach(model, {LAYERS[0]: sae}, "replace", skip=skip, record="all") as sites:
            tokens = model.generate(**padded("left"), **options, **static)
        found.append((tokens, sites[LAYERS[0]].latents))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], atol=1e-5, rtol=1e-5)
    assert (found[0][1] != 0).any(-1)[1].tolist()[:5] == [False] * 3 + [skip == 0, True]


def test_leading_tokens_are_known_from_the_cache_without_a_mask(model):
    sae = autoencoder("relu").eval()
    with attach(model, {LAYERS[0]: sae}, skip=2) as sites, torch.no_grad():
        first = model(input_ids=IDS[:, :5], use_cache=True)
        assert (sites[LAYERS[0]].latents != 0).any(-1).all(0).tolist() == [False] * 2 + [True] * 3
        model(input_ids=IDS[:, 5:], past_key_values=first.past_key_values)
        assert (sites[LAYERS[0]].latents != 0).any(-1).all()


def test_a_mask_that_is_passed_by_position(model):
    sae = autoencoder("relu").eval()
    inputs = padded("left")
    with attach(model, {LAYERS[0]: sae}, "read", skip=1) as sites, torch.no_grad():
        logits(model, **inputs)
        expected = sites[LAYERS[0]].latents
        model(inputs["input_ids"], inputs["attention_mask"])
        assert torch.equal(sites[LAYERS[0]].latents, expected)


def test_a_model_that_is_compiled_afterwards():
    model, sae = llama(), autoencoder("relu")
    with attach(model, {LAYERS[0]: sae}) as sites, torch.no_grad():
        sites[LAYERS[0]].clamp({3: 40.0})
        expected = logits(model)
        compiled = torch.compile(model, backend="eager")
        torch.testing.assert_close(logits(compiled), expected, atol=1e-5, rtol=1e-5)
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


def test_packed_texts_start_where_their_positions_do(model):
    sae = autoencoder("relu").eval()
    positions = torch.tensor([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    with attach(model, {LAYERS[0]: sae}, "read", skip=1) as sites, torch.no_grad():
        logits(model, input_ids=IDS[:1], position_ids=positions)
        counted = (sites[LAYERS[0]].latents != 0).any(-1)[0]
    assert counted.tolist() == (positions[0] > 0).tolist()


def test_the_leading_tokens_of_its_training_do_not_count(model):
    sae = autoencoder("relu")
    sae.trained_on = TrainedOn.of(model, LAYERS[0], skip=1)
    with attach(model, {LAYERS[0]: sae}) as sites, torch.no_grad():
        logits(model)
        assert (sites[LAYERS[0]].latents != 0).any(-1)[0].tolist() == [False] + [True] * 8


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


@pytest.mark.parametrize("normalize", ["none", "layer_norm"])
def test_steering(normalize, model):
    sae = autoencoder("topk", normalize=normalize).eval()
    sae.scale_in.fill_(2.0)
    sae.scale_out.fill_(2.0)
    with steer(model, sae, {3: 5.0, 9: -2.0}, layer=LAYERS[0]), torch.no_grad():
        found = logits(model)
    with attach(model, {LAYERS[0]: sae}) as sites, torch.no_grad():
        sites[LAYERS[0]].steer({3: 5.0, 9: -2.0})
        torch.testing.assert_close(found, logits(model), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(found, logits(model), atol=1e-2)


def test_steering_knows_its_layer(model):
    sae = autoencoder()
    with pytest.raises(InputError, match="not recorded: set layer="):
        steer(model, sae, {3: 1.0})
    sae.trained_on = TrainedOn.of(model, LAYERS[0], skip=1)
    dense = logits(model)
    with steer(model, sae, {3: 50.0}):
        changed = (logits(model) != dense).any(-1)
    assert not changed[:, 0].any()
    assert changed[:, 1:].all()
    sae.trained_on = TrainedOn(layer="blocks.0.hook_resid_post")
    with pytest.raises(InputError, match=r"'blocks.0.hook_resid_post' is no module.*set layer="):
        steer(model, sae, {3: 1.0})
    with steer(model, sae, {3: 50.0}, layer=LAYERS[0]) as steering:
        steering.remove()
        assert torch.equal(logits(model), dense)


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


def test_another_layer_or_model_is_refused(model):
    sae = autoencoder()
    sae.trained_on = TrainedOn.of(model, LAYERS[0], name="small")
    attach(model, {LAYERS[0]: sae}).remove()
    attach(llama().bfloat16(), {LAYERS[0]: sae}).remove()
    tuned = llama()
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.add_(0.05 * parameter.std() * torch.randn_like(parameter))
    attach(tuned, {LAYERS[0]: sae}).remove()
    with pytest.raises(
        InputError,
        match=r"on the output of 'model\.layers\.0' of small, not on the output of "
        r"'model\.layers\.1': check=False",
    ):
        attach(model, {LAYERS[1]: sae})
    with pytest.raises(InputError, match=r"not on the input of 'model\.layers\.0'"):
        attach(model, {LAYERS[0]: sae}, site="input")
    torch.manual_seed(1)
    other = llama()
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.copy_(parameter.std() * torch.randn_like(parameter))
    with pytest.raises(InputError, match="trained on small, whose weights differ"):
        attach(other, {LAYERS[0]: sae})
    with pytest.raises(InputError, match="trained on small, whose weights differ"):
        steer(other, sae, {1: 1.0})
    attach(other, {LAYERS[0]: sae}, check=False).remove()
    attach(model, {LAYERS[1]: sae}, check=False).remove()
    for hook, layer, fits in (
        ("blocks.1.hook_resid_post", LAYERS[1], True),
        ("blocks.1.hook_resid_post", LAYERS[0], False),
        ("blocks.1.hook_mlp_out", "model.layers.1.mlp", True),
        ("layers.1", LAYERS[1], True),
        ("layers.1", LAYERS[0], False),
        ("layers.1.mlp", LAYERS[1], False),
    ):
        sae.trained_on = TrainedOn(layer=hook)
        if fits:
            attach(model, {layer: sae}).remove()
        else:
            with pytest.raises(InputError, match="check=False"):
                attach(model, {layer: sae})


def test_adapters_and_compilation_do_not_hide_a_model(model):
    """Names and additions of adapters, as peft makes them, and packed weights."""
    trained_on = TrainedOn.of(model, LAYERS[0])
    for wrapped in (nn.ModuleDict({"_orig_mod": model}), nn.Sequential(model)):
        trained_on.check(TrainedOn.of(wrapped, LAYERS[0]))
    adapted = llama()
    for layer in adapted.model.layers:
        layer.mlp.lora_a, layer.mlp.lora_b = nn.Linear(32, 4), nn.Linear(4, 64)
    trained_on.check(TrainedOn.of(adapted, LAYERS[0]))
    packed = llama()
    for name, parameter in list(packed.named_parameters()):
        if "mlp" in name:
            owner = packed.get_submodule(name.rpartition(".")[0])
            codes = torch.zeros(parameter.numel() // 2, 1, dtype=torch.uint8)
            owner.weight = nn.Parameter(codes, requires_grad=False)
    trained_on.check(TrainedOn.of(packed, LAYERS[0]))


BAD = {
    "no such module": ({"model.layers.7": 32}, {}, "model.layers.7"),
    "several modules": ({"model.layers.*": 32}, {}, "matches .* modules"),
    "nothing": ({}, {}, "saes= is empty"),
    "no autoencoder": ({LAYERS[0]: None}, {}, "needs a SparseAutoencoder, got NoneType"),
    "one module twice": ({LAYERS[0]: 32, "model.layers.[0]": 32}, {}, "has two autoencoders"),
    "another mode": ({LAYERS[0]: 32}, {"mode": "splice"}, "unknown mode 'splice'"),
    "another site": ({LAYERS[0]: 32}, {"site": "middle"}, "unknown site 'middle'"),
    "another record": ({LAYERS[0]: 32}, {"record": "none"}, "unknown record 'none'"),
    "a negative skip": ({LAYERS[0]: 32}, {"skip": -1}, "skip= must be at least 0, got -1"),
}


@pytest.mark.parametrize("name", BAD)
def test_wrong_arguments(name, model):
    widths, options, message = BAD[name]
    saes = {key: width and autoencoder(width=width) for key, width in widths.items()}
    with pytest.raises(InputError, match=message):
        attach(model, saes, **options)


def test_wrong_uses_of_a_site(model):
    sae = autoencoder()
    with attach(model, {LAYERS[0]: sae}) as sites:
        site = sites[LAYERS[0]]
        with pytest.raises(InputError, match=r"has not called 'model\.layers\.0' yet"):
            site.latents  # noqa: B018
        with pytest.raises(InputError, match="unknown site"):
            sites["model.layers.1"]
        for wrong in ([64], [-1], [True], ["3"], [1.5]):
            with pytest.raises(InputError, match="there is no latent"):
                site.ablate(wrong)
        site.edit(lambda z: z[..., :3])
        with pytest.raises(InputError, match=r"must return latents of shape \(2, 9, 64\), got"):
            logits(model)
        site.reset().edit(lambda z: None)
        with pytest.raises(InputError, match="got NoneType"):
            logits(model)
    with (
        attach(model, {LAYERS[0]: sae}, "read") as sites,
        pytest.raises(InputError, match="no effect with mode='read'"),
    ):
        sites[LAYERS[0]].ablate([1])


def test_wrong_uses_in_a_forward(model):
    sae, narrow = autoencoder(), autoencoder(width=31)
    with (
        attach(model, {LAYERS[0]: narrow}),
        pytest.raises(InputError, match=r"'model\.layers\.0' reads activations of width 32"),
    ):
        logits(model)
    with (
        attach(model, {LAYERS[0]: sae}, skip=1),
        pytest.raises(InputError, match="outside of a forward of the model"),
    ):
        model.model(IDS)
    with (
        steer(model, narrow, {1: 1.0}, layer=LAYERS[0]),
        pytest.raises(InputError, match="gives activations of width 32"),
    ):
        logits(model)


def test_wrong_steering(model):
    sae = autoencoder()
    with pytest.raises(InputError, match="must be finite"):
        steer(model, sae, {1: math.nan}, layer=LAYERS[0])
    with pytest.raises(InputError, match="there is no latent 64"):
        steer(model, sae, {64: 1.0}, layer=LAYERS[0])


def test_a_compiled_model_is_refused():
    with pytest.raises(RuntimeError, match="compiled"):
        attach(torch.compile(llama()), {"_orig_mod.model.layers.0": autoencoder()})
