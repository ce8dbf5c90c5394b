"""The parts of a sparse autoencoder's step, batch 2048, 768 × 12288, k = 32: ours and torch's.

``python benchmarks/sparse_training.py decoder`` and ``encoder`` take a minute each.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Run, main
from sparsact.kernels import csr_linear, linear_topk, threshold_compress

Side = Callable[[], object]


@dataclass(frozen=True)
class Sizes:
    batch: int = 2048
    width: int = 768
    features: int = 12288
    k: int = 32


TINY = Sizes(8, 6, 40, 3)


def compare(run: Run, sides: dict[str, Side], repeats: int = 15) -> dict[str, object]:
    """Measure milliseconds; the last side is ours, and the ratios are the others over ours."""
    times = run.alternate(sides, repeats)
    ours = times[list(sides)[-1]]
    ratios = {f"{name} / ours": round(time / ours, 2) for name, time in times.items()}
    ratios.popitem()
    return {"ms": {name: round(time, 2) for name, time in times.items()}, **ratios}


def check_close(output: object, expected: object) -> None:
    torch.testing.assert_close(output, expected, rtol=1e-4, atol=5e-4)


def dense_code(values: Tensor, indices: Tensor, features: int) -> Tensor:
    return torch.zeros(len(values), features).scatter(1, indices, values)


def decoder_forward(
    run: Run, values: Tensor, indices: Tensor, weight_t: Tensor
) -> dict[str, object]:
    def bag() -> Tensor:
        return F.embedding_bag(indices, weight_t, per_sample_weights=values, mode="sum")

    def ours() -> Tensor:
        return csr_linear((values, indices), weight_t)

    z = dense_code(values, indices, len(weight_t))
    check_close(ours(), bag())
    check_close(ours(), z @ weight_t)
    sides = {"dense": lambda: z @ weight_t, "embedding_bag": bag, "ours": ours}
    return compare(run, sides, 21)


def decoder_backward(
    run: Run, values: Tensor, indices: Tensor, weight_t: Tensor
) -> dict[str, object]:
    grad = torch.randn(len(values), weight_t.shape[1])
    z = dense_code(values, indices, len(weight_t))
    inputs = values.clone().requires_grad_(), weight_t.clone().requires_grad_()
    result = csr_linear((inputs[0], indices), inputs[1])

    def dense() -> tuple[Tensor, Tensor]:
        return grad @ weight_t.T, z.T @ grad

    def ours() -> tuple[Tensor, ...]:
        return torch.autograd.grad(result, inputs, grad, retain_graph=True)

    code_grad, weight_grad = dense()
    check_close(ours(), (code_grad.gather(1, indices), weight_grad))
    return compare(run, {"dense": dense, "ours": ours})


def encoder_forward(
    run: Run, k: int, x: Tensor, weight: Tensor, bias: Tensor, select_dtype: torch.dtype | None
) -> dict[str, object]:
    def dense() -> tuple[Tensor, Tensor]:
        values, indices = torch.topk(F.linear(x, weight, bias), k)
        return values, indices

    def ours() -> tuple[Tensor, Tensor]:
        return linear_topk(x, weight, bias, k, select_dtype=select_dtype)

    (values, indices), (expected, best) = ours(), dense()
    check_close(values, F.linear(x, weight, bias).gather(1, indices))
    if select_dtype is None:
        check_close(values, expected)
    selected = dense_code(torch.ones_like(values), indices, len(weight))
    common = selected.gather(1, best).mean()
    times = compare(run, {"matmul and torch.topk": dense, "ours": ours})
    return {**times, "share of torch.topk's choice": round(common.item(), 4)}


def encoder_backward(
    run: Run, k: int, x: Tensor, weight: Tensor, bias: Tensor
) -> dict[str, object]:
    inputs = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
    grad = torch.randn(len(x), k)
    values, indices = linear_topk(*inputs, k)

    def dense() -> tuple[Tensor, ...]:
        sparse = dense_code(grad, indices, len(weight))
        return sparse @ weight, sparse.T @ x, sparse.sum(0)

    def ours() -> tuple[Tensor, ...]:
        return torch.autograd.grad(values, inputs, grad, retain_graph=True)

    check_close(ours(), dense())
    return compare(run, {"dense": dense, "ours": ours})


def compression(run: Run, x: Tensor, density: float) -> dict[str, object]:
    level = float(x.abs().flatten()[: 2**20].quantile(1 - density))

    def theirs() -> Tensor:
        return torch.where(x.abs() > level, x, 0.0).to_sparse_csr()

    def ours() -> Tensor:
        return threshold_compress(x, level)

    check_close(ours().values(), theirs().values())
    check_close(ours().col_indices().long(), theirs().col_indices())
    return compare(run, {"torch.where and to_sparse_csr": theirs, "ours": ours})


def bfloat16_product(run: Run, x: Tensor, weight: Tensor) -> dict[str, object]:
    """Measure how much faster this CPU is in bfloat16: the most that selection could gain."""
    x = x[:256]
    narrow = x.bfloat16(), weight.bfloat16()
    sides: dict[str, Side] = {
        "bfloat16": lambda: narrow[0] @ narrow[1].T,
        "float32": lambda: x @ weight.T,
    }
    times = run.alternate(sides, 15)
    return {
        "ms": {name: round(time, 2) for name, time in times.items()},
        "float32 / bfloat16": round(times["float32"] / times["bfloat16"], 2),
    }


def operands(run: Run) -> tuple[Sizes, Tensor, Tensor, Tensor]:
    """Make random inputs, weight and bias."""
    sizes = run.size(Sizes(), TINY)
    torch.manual_seed(0)
    x, bias = torch.randn(sizes.batch, sizes.width), 0.1 * torch.randn(sizes.features)
    return sizes, x, torch.randn(sizes.features, sizes.width) / sizes.width**0.5, bias


def decoder(run: Run) -> None:
    sizes, x, weight, bias = operands(run)
    values, indices = linear_topk(x, weight, bias, sizes.k)
    results = {
        "csr_linear forward": decoder_forward(run, values, indices, weight),
        "csr_linear backward": decoder_backward(run, values, indices, weight),
        "linear_topk backward": encoder_backward(run, sizes.k, x, weight, bias),
        "threshold_compress, 5% kept": compression(
            run, torch.randn(sizes.batch, sizes.features), 0.05
        ),
    }
    run.write("sparse_decoder", results)


def encoder(run: Run) -> None:
    sizes, x, weight, bias = operands(run)
    results = {
        "linear_topk": encoder_forward(run, sizes.k, x, weight, bias, None),
        "linear_topk, bfloat16 selection": encoder_forward(
            run, sizes.k, x, weight, bias, torch.bfloat16
        ),
        "torch.mm, 256 rows": bfloat16_product(run, x, weight),
    }
    run.write("sparse_encoder", results)


if __name__ == "__main__":
    main(__doc__, {"decoder": decoder, "encoder": encoder}, threads=2)
