import copy

import pytest
import torch

import sparsact as sa
from sparsact.sae import GatedReLU, SAEConfig, SparseAutoencoder
from sparsact.sae.sae_config import KINDS

PRESETS = [kind for kind in KINDS if kind != "custom"]


def make(kind, **sizes):
    return SparseAutoencoder(SAEConfig(**{"d_in": 6, "d_sae": 20, "k": 3} | sizes, activation=kind))


@pytest.mark.parametrize("kind", PRESETS)
def test_the_formula(kind):
    sae = make(kind)
    sae.b_dec.data.normal_()
    sae.encoder.bias.data.normal_()
    x = torch.randn(7, 6)
    pre = (x - sae.b_dec) @ sae.encoder.weight.T + sae.encoder.bias
    expected = sae.activation(pre) @ sae.W_dec + sae.b_dec
    assert torch.allclose(sae(x), expected, atol=1e-5)
    assert torch.allclose(sae.W_dec.norm(dim=1), torch.ones(20))


def test_the_presets():
    x = torch.randn(50, 6)
    assert (make("topk").encode(x) != 0).sum(1).max() <= 3
    assert (make("batch_topk").encode(x) != 0).sum() <= 150
    assert (make("softshrink").encode(x) < 0).any()
    assert (make("jumprelu").encode(x) >= 0).all()
    assert isinstance(make("gated").activation, GatedReLU)


@pytest.mark.parametrize("d_out", [None, 4])
@pytest.mark.parametrize("kind", PRESETS)
def test_folding_the_scale_changes_nothing_but_the_units(kind, d_out):
    sae = make(kind, d_out=d_out).eval()
    for parameter in (sae.b_dec, sae.encoder.bias):
        parameter.data.normal_()
    if kind == "batch_topk":
        sae.activation.running_threshold.fill_(0.4)
    sae.scale_in.fill_(0.3)
    sae.scale_out.fill_(0.3 if d_out is None else 1.7)
    folded = copy.deepcopy(sae).fold_scale_()
    x = torch.randn(30, 6) * 4
    assert folded.scale_in == folded.scale_out == 1
    assert torch.allclose(folded(x), sae(x), atol=1e-4)
    assert torch.allclose(folded.encode(x) * sae.scale_out, sae.encode(x), atol=1e-4)
    assert torch.equal(folded.W_dec, sae.W_dec)


def test_a_threshold_of_your_own():
    module = sa.nn.Firmshrink(0.2, 0.8)
    sae = SparseAutoencoder(SAEConfig(6, 20, "custom"), module)
    sae.scale_in.fill_(2.0)
    sae.scale_out.fill_(2.0)
    x = torch.randn(5, 6)
    before = sae(x)
    assert sae.activation is module
    assert torch.equal(sae.fold_scale_()(x), before)  # its levels are unknown: the scale stays
    assert sae.scale_in == 2


def test_a_transcoder_maps_another_tensor():
    sae = make("topk", d_out=4)
    assert sae(torch.randn(5, 6)).shape == (5, 4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"d_in": 0}, "d_in"),
        ({"k": 21}, "k=21"),
        ({"activation": "top_k"}, "topk"),
        ({"bandwidth": 0.0}, "bandwidth"),
        ({"d_out": 0}, "d_out"),
    ],
)
def test_wrong_configurations(arguments, message):
    with pytest.raises(ValueError, match=message):
        SAEConfig(**{"d_in": 6, "d_sae": 20, "k": 3} | arguments)


def test_a_module_goes_with_custom_only():
    with pytest.raises(ValueError, match="custom"):
        SparseAutoencoder(SAEConfig(6, 40), torch.nn.ReLU())
    with pytest.raises(ValueError, match="needs the module"):
        SparseAutoencoder(SAEConfig(6, 20, "custom"))


def test_gate_decides_apart_from_the_magnitude():
    gate = GatedReLU(3)
    gate.bias.data = torch.tensor([1.0, -1.0, 1.0])
    assert gate(torch.tensor([-0.5, 0.5, 0.5])).tolist() == [0.0, 0.0, 1.5]
    assert gate(torch.tensor([0.0, torch.nan, 1.0])).isnan().tolist() == [False, True, False]
