"""What attaching refuses: other layers and models, and wrong arguments."""

import numpy as np
import pytest
import torch
from torch import nn

from attached_models import IDS, LAYERS, autoencoder, logits
from sparsact._common.errors import InputError
from sparsact.sae import TrainedOn, attach, steer
from tiny_language import llama


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
        for wrong in ([64], [-1], [True], [np.True_], ["3"], [1.5]):
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


def test_a_compiled_model_is_refused():
    with pytest.raises(RuntimeError, match="compiled"):
        attach(torch.compile(nn.Sequential(nn.Linear(3, 32))), {"_orig_mod.0": autoencoder()})
