"""Steering, compared with adding to the latents of an attached autoencoder."""

import math

import pytest
import torch

from attached_models import LAYERS, autoencoder, logits
from sparsact._common.errors import InputError
from sparsact.sae import TrainedOn, attach, steer


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


def test_wrong_steering(model):
    sae = autoencoder()
    with pytest.raises(InputError, match="must be finite"):
        steer(model, sae, {1: math.nan}, layer=LAYERS[0])
    with pytest.raises(InputError, match="there is no latent 64"):
        steer(model, sae, {64: 1.0}, layer=LAYERS[0])
