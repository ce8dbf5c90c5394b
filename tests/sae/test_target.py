"""A chosen number of active latents, for every kind."""

import pytest
import torch

import sparsact as sa
from sparsact.sae import SAEConfig, SAETrainConfig, SAETrainer, SparseAutoencoder, evaluate
from sparsact.sae.training.target_l0 import set_l0_

CONFIG = {"lr": 2e-3, "lr_warmup_steps": 20, "sparsity_warmup_steps": 50}


def make(kind="topk"):
    return SparseAutoencoder(SAEConfig(16, 48, kind, k=4))


def trained(sae, batches, steps, **changes):
    trainer = SAETrainer(sae, SAETrainConfig(**CONFIG, **changes))
    return trainer, list(trainer.run(batches, steps))


@pytest.mark.parametrize("kind", ["relu", "jumprelu", "softshrink", "gated"])
def test_a_target_l0_is_reached_on_held_out_inputs(kind, batches, sparse_data):
    sae = make(kind)
    trainer, stats = trained(sae, batches, 400, target_l0=5.0)
    assert stats[-1].l0 == pytest.approx(5.0, rel=0.5)  # what training alone found
    trainer.reach_target(sparse_data[5000:7000])
    assert evaluate(sae, [sparse_data[7000:]]).l0 == pytest.approx(5.0, rel=0.05)


def test_batch_topk_reaches_its_k_by_the_running_threshold(batches, sparse_data):
    sae = make("batch_topk")
    trainer, _ = trained(sae, batches, 100, target_l0=4.0)
    trainer.reach_target(sparse_data[5000:7000])
    assert evaluate(sae, [sparse_data[7000:]]).l0 == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("target", [2.0, 20.0, 45.0])
@pytest.mark.parametrize("kind", ["relu", "jumprelu", "softshrink", "gated"])
def test_few_and_nearly_all_latents_can_be_had(kind, target):
    """Even where it takes negative pre-activations, and where a gate's magnitude is negative."""
    torch.manual_seed(0)
    sae, x = make(kind), torch.randn(500, 16)
    sae.encoder.bias.data.normal_()
    if kind == "gated":
        sae.activation.log_scale.data.normal_()
        sae.activation.bias.data.normal_()
    set_l0_(sae, sae.pre_activations(x), target)
    assert (sae.encode(x) != 0).sum(1).float().mean().item() == pytest.approx(target, rel=0.01)


def test_wrong_targets():
    with pytest.raises(ValueError, match="disagree"):
        SAETrainer(make(), SAETrainConfig(target_l0=8))
    with pytest.raises(ValueError, match="exceeds"):
        SAETrainer(make("relu"), SAETrainConfig(target_l0=49))
    custom = SparseAutoencoder(SAEConfig(16, 48, "custom"), torch.nn.ReLU())
    with pytest.raises(ValueError, match="penalty"):
        SAETrainer(custom, SAETrainConfig(target_l0=8))
    with pytest.raises(TypeError, match="Hardshrink"):
        own_target(sa.nn.Hardshrink(0.1))
    with pytest.raises(TypeError, match="JumpReLU"):
        own_target(sa.nn.JumpReLU(0.1))
    own_target(sa.nn.JumpReLU(0.1, learnable=True))


def own_target(module):
    sae = SparseAutoencoder(SAEConfig(16, 48, "custom"), module)
    return SAETrainer(sae, SAETrainConfig(target_l0=8), penalty=sa.L1(1.0))
