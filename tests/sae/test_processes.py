"""Two processes with half a batch each equal one with the whole, copied or sharded."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState, DistributedType
from joined_training import STEPS, data, harvested, results, saved, selected
from safetensors.torch import load_file

from sparsact.sae import (
    SAEConfig,
    SAETrainConfig,
    SAETrainer,
    SparseAutoencoder,
    load_sae,
    open_rows,
)
from sparsact.sae.training.joined_processes import check_accelerator, make_accelerator
from two_processes import run_on_two

SCRIPT = Path(__file__).with_name("joined_training.py")


@pytest.mark.skipif(not dist.is_gloo_available(), reason="torch was built without gloo")
def test_two_processes_equal_one_on_the_joined_batch(tmp_path):
    """One launch for all: xdist would start it in every worker for each test of its own."""
    run_on_two(SCRIPT, tmp_path)
    alone, whole = results(0, 1), saved(tmp_path, 0, 1, False)
    for way in ("ddp", "fsdp"):
        ranks = [torch.load(tmp_path / way / f"{rank}.pt") for rank in range(2)]
        for case, expected in alone.items():
            if case == "bf16":
                stays_in_float32(ranks[0][case], expected)
            else:
                learns_the_same(*(found[case] for found in ranks), expected, f"{way} {case}")
        losses = torch.load(tmp_path / way / "saved0.pt")["losses"]
        assert losses == pytest.approx(whole["losses"], rel=1e-5)
        the_files_are_the_same(tmp_path / way, tmp_path)
    for rank in range(2):
        assert torch.load(tmp_path / f"share{rank}.pt")["share"] == 0.5
        told = torch.load(tmp_path / f"mistakes{rank}.pt")
        assert "input batch of step 1 has NaN" in told["NaN"]
        assert "[8, 9]" in told["sizes"]
    each_makes_its_share(tmp_path)
    parts = [torch.load(tmp_path / f"selected{rank}.pt") for rank in range(2)]
    for case, expected in selected(0, 1).items():
        assert torch.equal(torch.cat([part[case] for part in parts]), expected), case


def learns_the_same(found, other, expected, case):
    assert len(expected["stats"]["loss"]) == STEPS
    for name, values in expected["stats"].items():
        assert found["stats"][name] == pytest.approx(values, rel=1e-5, abs=1e-6), (case, name)
    assert max(expected["stats"]["dead"]) >= 9
    assert found["fvu"] == pytest.approx(expected["fvu"], rel=1e-4)
    assert found["l0"] == pytest.approx(expected["l0"], rel=1e-3)
    for name, value in expected["sae"].items():
        assert torch.equal(found["sae"][name], other["sae"][name]), (case, name)
        assert torch.allclose(found["sae"][name], value, rtol=1e-3, atol=1e-4), (case, name)


def stays_in_float32(found, expected):
    assert found["stats"]["loss"] == pytest.approx(expected["stats"]["loss"], rel=2e-2)
    assert {found["sae"][name].dtype for name in ("W_dec", "activation.lambd")} == {torch.float32}


def the_files_are_the_same(ours, theirs):
    for file in ("sae/sae.safetensors", "checkpoint/state.safetensors"):
        tensors, others = load_file(ours / file), load_file(theirs / file)
        assert tensors.keys() == others.keys()
        for name, tensor in tensors.items():
            assert tensor.dtype == others[name].dtype
            assert torch.allclose(tensor, others[name], rtol=1e-3, atol=1e-4), name
    assert (ours / "sae/config.json").read_text() == (theirs / "sae/config.json").read_text()
    assert load_sae(ours / "sae").config.d_sae == 49


def each_makes_its_share(folder):
    found = [torch.load(folder / f"harvested{rank}.pt") for rank in range(2)]
    assert [one["calls"] for one in found] == [3, 2]
    expected = harvested(folder / "alone")["activations"]
    assert all(torch.equal(one["activations"], expected) for one in found)


def test_a_single_process_cannot_shard():
    with pytest.raises(ValueError, match="torchrun"):
        SAETrainer(SparseAutoencoder(SAEConfig(8, 16, k=2)), SAETrainConfig(shard=True))


@pytest.fixture
def accelerator_of_bf16():
    """As ``accelerate launch --mixed_precision bf16`` sets it up."""
    AcceleratorState._reset_state(True)
    yield make_accelerator(mixed_precision="bf16")
    AcceleratorState._reset_state(True)


def test_bfloat16_asked_of_accelerate_is_that_of_the_config(accelerator_of_bf16):
    def run(accelerator, **changes):
        torch.manual_seed(0)
        sae = SparseAutoencoder(SAEConfig(16, 48, "jumprelu"))
        config = SAETrainConfig(lr=2e-3, lr_warmup_steps=2, sparsity_warmup_steps=2, **changes)
        trainer = SAETrainer(sae, config, accelerator=accelerator)
        losses = [s.loss for s in trainer.run(open_rows(data()).batches(256), 30)]
        return sae, trainer.optimizer.state_dict()["state"].values(), losses

    sae, state, losses = run(accelerator_of_bf16)
    AcceleratorState._reset_state(True)
    assert losses == pytest.approx(run(None, mixed_precision="bf16")[2], rel=1e-4)
    assert losses != pytest.approx(run(None)[2], rel=1e-5)
    assert {parameter.dtype for parameter in sae.parameters()} == {torch.float32}
    assert {entry[name].dtype for entry in state for name in ("exp_avg", "exp_avg_sq")} == {
        torch.float32
    }
    assert len(sae.activation.lambd.unique()) > 1  # thresholds moved


@pytest.mark.parametrize(
    ("kind", "precision", "message"),
    [("FSDP", "no", "set shard=True"), ("DEEPSPEED", "no", "DEEPSPEED"), ("NO", "fp16", "'bf16'")],
)
def test_what_accelerate_does_and_training_does_not(kind, precision, message):
    accelerator = SimpleNamespace(
        distributed_type=DistributedType(kind), mixed_precision=precision, num_processes=2
    )
    with pytest.raises(ValueError, match=message):
        check_accelerator(SAETrainConfig(), accelerator)
