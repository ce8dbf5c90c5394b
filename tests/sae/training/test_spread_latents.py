"""A dictionary whose latents are spread over four processes: what one process does with all."""

from pathlib import Path

import pytest
import torch
from spread_latents import KINDS, STEPS, batches, settings, start, streamed, trained

from sparsact.sae import (
    LatentShardedTrainer,
    SAEConfig,
    SAETrainConfig,
    SAETrainer,
    SparseAutoencoder,
)
from two_processes import run_on

PROCESSES = 4


@pytest.fixture(scope="module")
def spread(tmp_path_factory):
    """The results of four processes."""
    folder = tmp_path_factory.mktemp("spread")
    script = Path(__file__).with_name("spread_latents.py")
    run_on(PROCESSES, script, folder)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("kind", KINDS)
def test_the_steps_are_those_of_one_process(spread, kind):
    alone = trained(kind)
    for part in spread:
        found = part[kind]
        for name in ("loss", "l0", "norm"):
            assert found[name] == pytest.approx(alone[name], rel=1e-3)
        assert found["dead"] == alone["dead"]
        for name, value in alone["sae"].items():
            torch.testing.assert_close(found["sae"][name], value, rtol=1e-3, atol=1e-4)
    assert max(alone["dead"]) > 0  # the auxiliary loss took part
    complete = sum(parameter.numel() for parameter in start(kind).parameters())
    assert all(part[kind]["own"] < 0.3 * complete for part in spread)


@pytest.mark.parametrize("kind", KINDS)
def test_one_process_is_the_ordinary_trainer(kind):
    sae = start(kind)
    trainer = SAETrainer(sae, settings(kind), sparse_below=0.0)
    expected = [stats.loss for stats in trainer.run(batches(), STEPS)]
    alone = trained(kind)
    assert alone["loss"] == pytest.approx(expected, rel=1e-4)
    torch.testing.assert_close(alone["sae"]["W_dec"], sae.W_dec.detach(), rtol=1e-3, atol=1e-4)


def test_processes_share_the_text_of_a_stream(spread):
    expected, rows = streamed()
    for step, batch in enumerate(expected):
        for layer in (0, 1):
            joined = torch.cat([part["stream"][0][step][layer] for part in spread])
            torch.testing.assert_close(joined, batch[layer])
    assert all(part["stream"][1] <= rows / PROCESSES + 8 for part in spread)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("gated", {}, "'gated' cannot be spread"),
        ("topk", {"resample_every": 10}, "resample_every= is not supported"),
        ("topk", {"prefixes": (4,)}, "prefixes= is not supported"),
        ("relu", {"p_end": 0.5}, "p_end= is not supported"),
        ("topk", {"mixed_precision": "bf16"}, "mixed_precision= is not supported"),
    ],
)
def test_what_is_not_supported(kind, options, message):
    with pytest.raises(ValueError, match=message):
        LatentShardedTrainer(SAEConfig(8, 32, kind, k=4), SAETrainConfig(**options))


def test_batches_that_are_wrong():
    trainer = LatentShardedTrainer(SAEConfig(8, 32, k=4))
    with pytest.raises(ValueError, match="NaN"):
        trainer.step(torch.full((4, 8), torch.nan))
    with pytest.raises(ValueError, match="batches ended after 0 of 3"):
        trainer.fit([], 3)
    assert isinstance(trainer.autoencoder(), SparseAutoencoder)
