"""Rows for the tests of devices: solvers, denoising, autoencoders and language models."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

import sparsact as sa
from device_part_cases import Move, case, with_gradient
from sae_kind_cases import KIND_CASES
from second_device import DeviceAccelerator


@case
def sparse_code(move: Move) -> Any:
    x, dictionary = move(torch.randn(3, 6)), move(torch.randn(9, 6))
    x.requires_grad_()
    codes = sa.coding.sparse_code(x, dictionary, sa.L1(0.8), tol=1e-3)
    explained = sa.coding.sparse_code(x, dictionary, sa.L1(0.8), gradient="implicit", tol=1e-3)
    admm = sa.coding.sparse_code(x, dictionary, sa.L1(0.8), method="admm", tol=1e-3)
    return codes, torch.autograd.grad(explained.sum(), x), admm


@case
def coordinate_descent(move: Move) -> Any:
    x, dictionary = move(torch.randn(3, 6)), move(torch.randn(9, 6))
    return sa.coding.sparse_code(x, dictionary, sa.L1(0.8), method="cd", tol=1e-6)


@case
def code_path(move: Move) -> Any:
    x, dictionary = move(torch.randn(3, 6)), move(torch.randn(9, 6))
    result = sa.coding.path(x, dictionary, count=4, method="fista", tol=1e-3)
    return result.codes, result.lambdas


@case
def dictionary_learning(move: Move) -> Any:
    data = move(torch.randn(30, 6))
    each = [
        sa.coding.fit_dictionary(data, 5, sa.L1(0.2), method=method, epochs=2)
        for method in ("alternating", "online")
    ]
    return [(learned.atoms, learned.codes) for learned in each]


@case
def unfolded_networks(move: Move) -> Any:
    atoms, x = nn.functional.normalize(torch.randn(9, 6), dim=1), move(torch.randn(4, 6))
    nets = [sa.coding.LISTA(atoms, 3), sa.coding.LISTA(atoms, 3, momentum=True)]
    nets += [sa.coding.ALISTA(atoms, 3)]
    return [with_gradient(move(net), x) for net in nets]


@case
def convolutional_networks(move: Move) -> Any:
    torch.manual_seed(1)
    image, atoms = move(torch.randn(2, 1, 8, 8)), torch.randn(4, 1, 3, 3)
    net = move(sa.coding.CDLNet(1, 4, 3, steps=2))
    dictionary = sa.coding.ConvDictionary(move(atoms))
    codes = sa.coding.sparse_code(image, dictionary, sa.L1(2.0), tol=1e-2)
    return net(image, sigma=0.1), move(sa.coding.ConvLISTA(atoms, 2))(image), codes


@case
def noise_level(move: Move) -> Any:
    return sa.coding.noise_level(move(torch.randn(2, 1, 16, 16)))


@case
def denoise_wavelet(move: Move) -> Any:
    x = move(torch.randn(2, 32, 32))
    rules = ("bayes", "visu", "sure", "fdr", 0.4)
    return [sa.denoise_wavelet(x, threshold=rule, levels=2) for rule in rules], [
        sa.denoise_wavelet(x.abs(), noise=noise, levels=2) for noise in ("gaussian", "poisson")
    ]


@case
def denoise_in_other_ways(move: Move) -> Any:
    x, mask = move(torch.randn(2, 32, 32)), move(torch.rand(2, 32, 32) > 0.1)
    return (
        sa.denoise_wavelet(x, cycle_spins="all", levels=2),
        sa.denoise_wavelet(x, mask=mask, levels=2),
        sa.denoise.estimate_sigma(x),
    )


@case
def learned_denoiser(move: Move) -> Any:
    images = move(torch.randn(2, 32, 32))
    net = sa.denoise.fit_denoiser(images, 0.5, crop=32, levels=2, steps=3)
    return net(images), list(net.parameters())


def _autoencoder(move: Move, kind: str = "topk", width: int = 8) -> sa.SparseAutoencoder:
    torch.manual_seed(0)
    return move(sa.SparseAutoencoder(sa.SAEConfig(width, 24, kind, k=4)))


for _kind in KIND_CASES:

    def _run(move: Move, kind: str = _kind) -> Any:
        sae, x = _autoencoder(move, kind), move(torch.randn(64, 8))
        config = sa.SAETrainConfig(lr=1e-2, aux_k=4, dead_after=64)
        trainer = sa.SAETrainer(sae, config, accelerator=DeviceAccelerator(x.device))
        stats = trainer.fit([x, x + 1, x], 3)
        metrics = sa.sae.evaluate(sae, [x])
        return list(sae.parameters()), torch.tensor([stats.fvu, metrics.fvu]), metrics.density

    case(_run, f"SAETrainer.{_kind}")


@case
def sae_files(move: Move) -> Any:
    sae, x = _autoencoder(move), move(torch.randn(4, 8))
    with tempfile.TemporaryDirectory() as folder:
        sa.sae.save_sae(sae, Path(folder) / "sae")
        return sae(x), move(sa.sae.load(Path(folder) / "sae"))(x)


def _language_model(move: Move) -> tuple[nn.Module, torch.Tensor]:
    from tiny_language import llama

    return move(llama(num_hidden_layers=1)), torch.randint(3, 32, (2, 9))


@case
def sae_attached(move: Move) -> Any:
    model, ids = _language_model(move)
    sae, ids = _autoencoder(move, width=32), move(ids)
    with sa.sae.attach(model, {"model.layers.0": sae}) as sites, torch.no_grad():
        sites["model.layers.0"].steer({3: 5.0}).ablate([1])
        replaced = model(ids).logits
    with sa.sae.steer(model, sae, {3: 5.0}, layer="model.layers.0"), torch.no_grad():
        return replaced, model(ids).logits, sa.sae.geometric_median(move(torch.randn(9, 4)))


@case
def sae_on_a_model(move: Move) -> Any:
    model, ids = _language_model(move)
    sae = _autoencoder(move, width=32)
    tokens = sa.sae.Tokens(ids, torch.ones_like(ids).bool())
    metrics = sa.sae.evaluate_spliced(model, "model.layers.0", sae, tokens, check=False)
    with tempfile.TemporaryDirectory() as folder:
        rows = sa.sae.harvest(model, "model.layers.0", tokens, Path(folder) / "rows")
        return torch.tensor([metrics.cross_entropy, metrics.spliced]), next(
            iter(rows.batches(4, seed=0))
        )


@case
def calibration(move: Move) -> Any:
    model, ids = _language_model(move)
    batches = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}] * 2
    plans = [
        sa.calibrate(model, batches[:1], 0.5, score=score, allocate=allocate)
        for score, allocate in (("loss", "global"), ("weight", "uniform"))
    ]
    plans.append(sa.compensate(plans[0], model, batches, rank=2))
    plans.append(sa.tune(plans[0], model, batches, 2))
    with plans[-1].apply(model), torch.no_grad():
        return [plan.thresholds for plan in plans], model(move(ids)).logits


@case
def inference(move: Move) -> Any:
    from sparsact.evaluation import window_losses

    model, ids = _language_model(move)
    plan = sa.calibrate(model, [ids], 0.5, score="magnitude")
    fast = sa.sparsify(model, plan)
    losses = window_losses(fast, move(ids))
    return losses, sa.generate(fast, move(ids[:1]), 3, eos_token_id=())


@case
def feature_selection(move: Move) -> Any:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(30, 4, generator=generator)
    y = x[:, 1] - 2 * x[:, 3]
    device = str(move(torch.zeros(1)).device)
    fits = [
        sa.FeatureSelector(method, 2, max_iter=2, random_state=0, device=device).fit(x, y)
        for method in ("lasso", "stg", "lassonet")
    ]
    return [torch.from_numpy(fit.support_) for fit in fits]


@case
def comparison(move: Move) -> Any:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(80, 4, generator=generator)
    data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())
    loader = torch.utils.data.DataLoader(data, 40)
    result = sa.compare_activations(
        lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)),
        loader,
        loader,
        activations=("relu", "softshrink"),
        epochs=1,
        seeds=1,
        device=str(move(torch.zeros(1)).device),
    )
    return list(result.best.parameters())
