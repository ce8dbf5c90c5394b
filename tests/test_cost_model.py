"""The formulas of the cost model, against small runs and the objects themselves."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

import sparsact as sa
from sparsact.calibration.score_histogram import ScoreHistogram
from sparsact.calibration.site_moments import SiteMoments, groups_within
from sparsact.calibration.sites import find_sites
from tiny_models import mlp

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "larger_than_a_machine.md"


@pytest.fixture(scope="module")
def costs():
    spec = importlib.util.spec_from_file_location("cost_model", ROOT / "scripts" / "cost_model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def nbytes(tensors):
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def saved_bytes(module, compute):
    """What a forward keeps for backward, without the parameters, each storage once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        output = compute()
    del output
    return sum(size for size, _ in kept.values())


@pytest.fixture
def trained():
    """A dictionary after one dense step, and its batch."""
    sae = sa.SparseAutoencoder(sa.SAEConfig(16, 256, "topk", k=4))
    trainer, x = sa.SAETrainer(sae, sa.SAETrainConfig(sparse=False, aux_k=0)), torch.randn(32, 16)
    trainer.step(x)
    return trainer, x


def test_the_state_of_a_dictionary(costs, trained):
    trainer, x = trained
    job = costs.Dictionary(16, 256, len(x))
    parameters = list(trainer.sae.parameters())
    assert sum(parameter.numel() for parameter in parameters) == job.parameters
    moments = [
        value
        for state in trainer.optimizer.state.values()
        for name, value in state.items()
        if name != "step"
    ]
    own = 2 * nbytes(parameters) + nbytes(moments) + nbytes(trainer.latents.buffers())
    assert own == job.state_bytes


def test_the_graph_and_the_products_of_a_step(costs, trained):
    trainer, x = trained
    job, dead = costs.Dictionary(16, 256, len(x)), trainer.latents.dead
    kept = saved_bytes(trainer.sae, lambda: trainer.loss(x, x, 1.0, dead, False))
    assert kept == job.saved_bytes(1, False) == job.saved_bytes(1, True)
    with FlopCounterMode(display=False) as counter:
        trainer.step(x)
    assert counter.get_total_flops() == job.flops


def test_one_gpu_needs_no_network(costs):
    job = costs.Dictionary()
    for plan in costs.PLANS.values():
        memory, traffic = plan(job, 1)
        assert traffic == 0
        assert memory >= job.state_bytes + job.saved_bytes(1, False)


@pytest.mark.parametrize("changes", [{}, {"layers": 3}, {"key_heads": 4}, {"inner": 96}])
def test_the_shape_of_a_language_model(costs, changes):
    from tiny_language import llama

    shape = {"width": 32, "inner": 64, "layers": 2, "heads": 4, "key_heads": 2, "vocabulary": 32}
    formula = costs.Llama(**{**shape, **changes})
    model = llama(
        intermediate_size=formula.inner,
        num_hidden_layers=formula.layers,
        num_key_value_heads=formula.key_heads,
        tie_word_embeddings=False,
    )
    assert sum(parameter.numel() for parameter in model.parameters()) == formula.parameters
    sites = find_sites(model, torch.randint(32, (1, 5)))
    assert [site.inputs for site in sites] == formula.site_widths * formula.layers
    assert sum(site.weights for site in sites) == formula.linear_weights
    for memory_bytes in (1, 10_000, 20_000, 2**30):
        groups = list(groups_within(memory_bytes, sites))
        assert len(groups) == formula.compensation_passes(memory_bytes)


def test_the_published_size_of_the_large_model(costs):
    assert costs.Llama().parameters == 70_553_706_496  # of meta-llama/Meta-Llama-3-70B


def test_what_a_layer_keeps_for_backward(costs):
    from tiny_language import llama

    def kept(layers, tokens):
        model, ids = llama(num_hidden_layers=layers), torch.randint(32, (1, tokens))
        return saved_bytes(model, lambda: model(ids).logits)

    shape = {"width": 32, "inner": 64, "heads": 4, "key_heads": 2, "vocabulary": 32}
    for tokens in (16, 24):
        two_layers = 4 * costs.Llama(layers=2, **shape).saved_floats(tokens)
        assert kept(3, tokens) - kept(1, tokens) == two_layers


def test_the_statistics_of_a_site(costs):
    assert nbytes([ScoreHistogram().counts]) == costs.HISTOGRAM_BYTES
    moments = SiteMoments.zeros(48, torch.device("cpu"))
    assert nbytes([moments.square, moments.cross]) == 2 * 4 * 48**2


@pytest.mark.parametrize("batches", [1, 4, 6])
def test_the_products_of_calibration(costs, batches):
    model, rows = mlp(), 7
    data = list(torch.randn(batches, rows, 16))
    with FlopCounterMode(display=False) as counter:
        loss = lambda output, batch: output.square().sum()  # noqa: E731
        sa.calibrate(model, data, 0.5, loss_fn=loss, held_out=data[:1])

    class Shape(costs.Llama):
        linear_weights = 16 * 48 + 48 * 24 + 24 * 5

    assert counter.get_total_flops() == Shape().calibration_flops(batches, 1, rows)


def test_a_training_carries_its_data(costs, monkeypatch, tmp_path):
    cloudpickle = pytest.importorskip("cloudpickle")
    from sparsact.compare.training import engine

    sizes = []

    def here(jobs, count, backend, kept):
        for place, job in enumerate(jobs):
            sizes.append(len(cloudpickle.dumps(job)))
            yield place, job()

    monkeypatch.setattr(engine, "in_processes", here)
    x = torch.randn(4000, 50)
    data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())
    loader = torch.utils.data.DataLoader(data, 4000)
    sa.compare_activations(
        lambda: mlp(50, 8, 2),
        loader,
        loader,
        activations="relu",
        epochs=1,
        seeds=1,
        jobs=2,
        out=str(tmp_path / "run"),
    )
    assert sizes
    for size in sizes:
        assert nbytes(data.tensors) < size < 2 * nbytes(data.tensors) + 1e6


def test_the_tables_are_made_of_the_formulas(costs):
    table = costs.dictionary_table(costs.Device(memory=1e6), costs.Dictionary(16, 256, 32))
    memory, traffic = costs.by_latents(costs.Dictionary(16, 256, 32), 64)
    assert f"| 64 | {memory / 1e3:.3g} kB | yes | {traffic / 1e6:.3g} MB |" in table
    assert "**no**" in costs.cost_table("dictionary")
    assert "240 passes" in costs.cost_table("calibration")


def test_the_numbers_in_the_sentences_of_the_page(costs):
    device, model, words = costs.Device(), costs.Llama(), PAGE.read_text(encoding="utf-8")

    def fits(latents):
        return costs.copied(costs.Dictionary(latents=latents), 8)[0] <= device.memory

    assert "up to about 500,000 latents" in words
    assert fits(500_000) and not fits(600_000)  # noqa: PT018
    assert "a billion of them take 8 TB" in words
    assert round(1e9 * costs.Dictionary().width * 2 / 1e12) == 8
    assert "two histograms of 256\nKiB" in words
    assert costs.HISTOGRAM_BYTES == 256 * 2**10
    assert "three hold the model and the graph" in words
    assert 2 < (2 * model.parameters + model.graph_bytes(512)) / device.memory < 3
    assert "three passes for each layer" in words
    assert model.compensation_passes(2**30) == 3 * model.layers
    training, _ = costs.Sweep().seconds_on(64, device)
    assert "takes more than an hour, longer than the trainings on 64 GPUs" in words
    assert costs.Sweep(data_bytes=20e9).seconds_on(64, device)[1] > max(3600, training)
