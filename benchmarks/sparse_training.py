"""A sparse autoencoder's step in pieces, batch 2048, 768 × 12288, k = 32: ours and torch's.

``python benchmarks/sparse_training.py decoder`` (or ``encoder``) runs one half, a minute each.
"""

import sys
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import alternate, write
from sparsact.kernels import csr_linear, linear_topk, threshold_compress

BATCH, WIDTH, FEATURES, K = 2048, 768, 12288, 32
Side = Callable[[], object]


def compare(sides: dict[str, Side], repeats: int = 15) -> dict[str, object]:
    """Milliseconds of each side; the last is ours, and the ratios are the others' over it."""
    times = alternate(sides, repeats)
    ours = times[list(sides)[-1]]
    ratios = {f"{name} / ours": round(time / ours, 2) for name, time in times.items()}
    ratios.popitem()
    return {"ms": {name: round(time, 2) for name, time in times.items()}, **ratios}


def close(found: object, expected: object) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=5e-4)


def dense_code(values: Tensor, indices: Tensor) -> Tensor:
    return torch.zeros(len(values), FEATURES).scatter(1, indices, values)


def decoder_forward(values: Tensor, indices: Tensor, weight_t: Tensor) -> dict[str, object]:
    def bag() -> Tensor:
        return F.embedding_bag(indices, weight_t, per_sample_weights=values, mode="sum")

    def ours() -> Tensor:
        return csr_linear((values, indices), weight_t)

    z = dense_code(values, indices)
    close(ours(), bag())
    close(ours(), z @ weight_t)
    return compare({"dense": lambda: z @ weight_t, "embedding_bag": bag, "ours": ours}, 21)


def decoder_backward(values: Tensor, indices: Tensor, weight_t: Tensor) -> dict[str, object]:
    grad, z = torch.randn(BATCH, WIDTH), dense_code(values, indices)
    inputs = values.clone().requires_grad_(), weight_t.clone().requires_grad_()
    result = csr_linear((inputs[0], indices), inputs[1])

    def dense() -> tuple[Tensor, Tensor]:
        return grad @ weight_t.T, z.T @ grad

    def ours() -> tuple[Tensor, ...]:
        return torch.autograd.grad(result, inputs, grad, retain_graph=True)

    code_grad, weight_grad = dense()
    close(ours(), (code_grad.gather(1, indices), weight_grad))
    return compare({"dense": dense, "ours": ours})


def encoder_forward(
    x: Tensor, weight: Tensor, bias: Tensor, select_dtype: torch.dtype | None
) -> dict[str, object]:
    def dense() -> tuple[Tensor, Tensor]:
        values, indices = torch.topk(F.linear(x, weight, bias), K)
        return values, indices

    def ours() -> tuple[Tensor, Tensor]:
        return linear_topk(x, weight, bias, K, select_dtype=select_dtype)

    (values, indices), (expected, best) = ours(), dense()
    close(values, F.linear(x, weight, bias).gather(1, indices))
    if select_dtype is None:
        close(values, expected)
    common = (dense_code(torch.ones_like(values), indices).gather(1, best)).mean()
    times = compare({"matmul and torch.topk": dense, "ours": ours})
    return {**times, "share of torch.topk's choice": round(common.item(), 4)}


def encoder_backward(x: Tensor, weight: Tensor, bias: Tensor) -> dict[str, object]:
    inputs = [tensor.clone().requires_grad_() for tensor in (x, weight, bias)]
    grad = torch.randn(BATCH, K)
    values, indices = linear_topk(*inputs, K)

    def dense() -> tuple[Tensor, ...]:
        sparse = dense_code(grad, indices)
        return sparse @ weight, sparse.T @ x, sparse.sum(0)

    def ours() -> tuple[Tensor, ...]:
        return torch.autograd.grad(values, inputs, grad, retain_graph=True)

    close(ours(), dense())
    return compare({"dense": dense, "ours": ours})


def compression(density: float) -> dict[str, object]:
    x = torch.randn(BATCH, FEATURES)
    level = float(x.abs().flatten()[: 2**20].quantile(1 - density))

    def theirs() -> Tensor:
        return torch.where(x.abs() > level, x, 0.0).to_sparse_csr()

    def ours() -> Tensor:
        return threshold_compress(x, level)

    close(ours().values(), theirs().values())
    close(ours().col_indices().long(), theirs().col_indices())
    return compare({"torch.where and to_sparse_csr": theirs, "ours": ours}, 15)


def bfloat16_product(x: Tensor, weight: Tensor) -> dict[str, object]:
    """Whether this CPU is any faster at bfloat16: what selection in it could gain."""
    x = x[:256]
    narrow = x.bfloat16(), weight.bfloat16()
    sides: dict[str, Side] = {
        "bfloat16": lambda: narrow[0] @ narrow[1].T,
        "float32": lambda: x @ weight.T,
    }
    times = alternate(sides, 15)
    return {
        "ms": {name: round(time, 2) for name, time in times.items()},
        "float32 / bfloat16": round(times["float32"] / times["bfloat16"], 2),
    }


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(2)
    x, bias = torch.randn(BATCH, WIDTH), 0.1 * torch.randn(FEATURES)
    weight = torch.randn(FEATURES, WIDTH) / WIDTH**0.5
    values, indices = linear_topk(x, weight, bias, K)
    halves: dict[str, dict[str, Callable[[], dict[str, object]]]] = {
        "decoder": {
            "csr_linear forward": lambda: decoder_forward(values, indices, weight),
            "csr_linear backward": lambda: decoder_backward(values, indices, weight),
            "linear_topk backward": lambda: encoder_backward(x, weight, bias),
            "threshold_compress, 5% kept": lambda: compression(0.05),
        },
        "encoder": {
            "linear_topk": lambda: encoder_forward(x, weight, bias, None),
            "linear_topk, bfloat16 selection": lambda: encoder_forward(
                x, weight, bias, torch.bfloat16
            ),
            "torch.mm, 256 rows": lambda: bfloat16_product(x, weight),
        },
    }
    for half in sys.argv[1:] or halves:
        write(f"sparse_{half}", {name: run() for name, run in halves[half].items()})


if __name__ == "__main__":
    main()
