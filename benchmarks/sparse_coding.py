"""Sparse codes against scikit-learn, SPAMS, celer and skglm, in one run, and how the cost grows.

    python benchmarks/sparse_coding.py batch       # many signals, one dictionary
    python benchmarks/sparse_coding.py curves      # time against atoms, signals and sparsity
    python benchmarks/sparse_coding.py large       # one large lasso, against celer and skglm
    python benchmarks/sparse_coding.py dictionary  # learned dictionaries of digits and patches
    python benchmarks/sparse_coding.py lista       # ten learned steps against steps of FISTA

The peers are in ``benchmarks/peers/coding.txt``; those that are not installed are left out. All
sides run on two threads where they can. Codes are compared before they are timed: every side must
reach a relative duality gap of 1e-6, times two for rounding. celer and skglm stop by criteria of
their own, so their tolerances are lowered until that holds.
"""

import importlib.util
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import scipy.sparse
import torch
from sklearn.datasets import load_digits, load_sample_image
from sklearn.decomposition import MiniBatchDictionaryLearning, sparse_encode
from sklearn.feature_extraction.image import extract_patches_2d
from torch import Tensor

import sparsact as sa
from harness import Run, main
from sparsact.coding import LISTA, fit_dictionary, solve_sparse_code, sparse_code

THREADS = 2
GAP = 1e-6
Solve = Callable[[], Any]


def installed(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def largest_gap(x: Any, atoms: Any, codes: Any, level: float) -> float:
    """The largest duality gap over ½‖x‖², in float64; rows are signals, atoms and codes."""
    residual = x - codes @ atoms
    correlation = residual @ atoms.T
    scale = np.minimum(1, level / np.abs(correlation).max(1))
    square, energy = (residual**2).sum(1), (x**2).sum(1)
    dual = scale * (x * residual).sum(1) - scale**2 / 2 * square
    return float(((square / 2 + level * np.abs(codes).sum(1) - dual) / (energy / 2)).max())


def signals_and_atoms(signals: int, atoms: int, dim: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(signals, dim, generator=generator, dtype=torch.float64)
    dictionary = torch.randn(atoms, dim, generator=generator, dtype=torch.float64)
    return x, dictionary / dictionary.norm(dim=1, keepdim=True)


def batch_sides(x: Tensor, atoms: Tensor, level: float, peers: bool) -> dict[str, Solve]:
    """Each side returns codes (signals, atoms), or their transpose as SPAMS does."""
    narrow, narrow_atoms = x.float(), atoms.float()
    sides: dict[str, Solve] = {
        "ours": lambda: sparse_code(x, atoms, sa.L1(level), method="cd"),
        "ours float32": lambda: sparse_code(narrow, narrow_atoms, sa.L1(level), method="cd"),
    }
    if not peers:
        return sides
    signals, dictionary = x.numpy(), atoms.numpy()
    sides["scikit-learn"] = lambda: sparse_encode(
        signals, dictionary, algorithm="lasso_cd", alpha=level
    )
    if installed("spams"):
        import spams

        columns = np.asfortranarray(signals.T), np.asfortranarray(dictionary.T)
        narrow_columns = [np.asfortranarray(array, np.float32) for array in columns]
        options = {"lambda1": level, "mode": 2, "numThreads": THREADS}
        sides["SPAMS"] = lambda: spams.lasso(columns[0], D=columns[1], **options)
        sides["SPAMS float32"] = lambda: spams.lasso(
            narrow_columns[0], D=narrow_columns[1], **options
        )
    return sides


def dense_codes(codes: Any) -> Any:
    if isinstance(codes, Tensor):
        return codes.double().numpy()
    return codes.toarray().T.astype(float) if scipy.sparse.issparse(codes) else codes


def batch(run: Run) -> None:
    """Times of many signals in one dictionary, and how near each side is to the optimum."""
    x, atoms = signals_and_atoms(*run.size((10_000, 256, 64), (40, 16, 8)))
    level = 1.1
    sides = batch_sides(x, atoms, level, peers=True)
    found = {name: dense_codes(side()) for name, side in sides.items()}
    gaps = {
        name: largest_gap(x.numpy(), atoms.numpy(), codes, level) for name, codes in found.items()
    }
    for name, gap in gaps.items():  # sparse_encode has no tolerance to set: it stops at 1e-4
        assert gap <= (3e-4 if name == "scikit-learn" else 2 * GAP), (name, gap)
    times = run.alternate(sides, repeats=7, warmup=1)
    ratios = {f"{name} / ours": round(time / times["ours"], 2) for name, time in times.items()}
    density = float((found["ours"] != 0).mean())
    rounded = {name: round(time, 1) for name, time in times.items()}
    largest = {name: float(f"{gap:.1e}") for name, gap in gaps.items()}
    results = {"ms": rounded, "ratio": ratios, "largest relative gap": largest, "density": density}
    run.write("sparse_coding_batch", results)


def curves(run: Run) -> None:
    """Times of ours and scikit-learn against atoms, signals and λ, the rest as in `batch`."""
    signals, dim = run.size((2000, 64), (20, 8))
    results: dict[str, dict[str, dict[str, float]]] = {"atoms": {}, "signals": {}, "lambda": {}}
    for atoms in run.size((64, 128, 256, 512, 1024), (8, 16)):
        results["atoms"][str(atoms)] = curve_point(run, signals, atoms, dim, 1.1)
    for count in run.size((100, 1000, 10_000), (4, 8)):
        results["signals"][str(count)] = curve_point(run, count, 4 * dim, dim, 1.1)
    for level in run.size((3.0, 2.0, 1.1, 0.5, 0.2), (2.0, 1.0)):
        results["lambda"][str(level)] = curve_point(run, signals, 4 * dim, dim, level)
    run.write("sparse_coding_curves", results)


def curve_point(run: Run, signals: int, atoms: int, dim: int, level: float) -> dict[str, float]:
    x, dictionary = signals_and_atoms(signals, atoms, dim)
    sides = batch_sides(x, dictionary, level, peers=False)
    sides["scikit-learn"] = lambda: sparse_encode(
        x.numpy(), dictionary.numpy(), algorithm="lasso_cd", alpha=level
    )
    density = float((sides["ours"]() != 0).double().mean())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn stops after 1000 sweeps
        times = run.alternate(sides, repeats=3, warmup=1)
    return {"density": round(density, 4)} | {name: round(ms, 2) for name, ms in times.items()}


def dense_problem(rows: int, columns: int) -> tuple[Any, Any]:
    """Correlated columns, few rows, 20 true coefficients: like gene expression."""
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((rows, 20)) @ generator.standard_normal((20, columns))
    matrix += 2 * generator.standard_normal((rows, columns))
    matrix -= matrix.mean(0)
    matrix /= np.linalg.norm(matrix, axis=0) / np.sqrt(rows)
    coefficients = np.zeros(columns)
    coefficients[generator.choice(columns, 20, False)] = generator.standard_normal(20)
    target = matrix @ coefficients
    target += 0.3 * target.std() * generator.standard_normal(rows)
    return np.asfortranarray(matrix), target - target.mean()


def sparse_problem(rows: int, columns: int) -> tuple[Any, Any]:
    """Rows of norm 1 with 75 words, the common ones in most rows: like documents."""
    generator = np.random.default_rng(0)
    share = 1 / np.arange(1, columns + 1) ** 0.9
    words = generator.choice(columns, (rows, 75), p=share / share.sum())
    entries = generator.lognormal(size=(rows, 75)).ravel()
    place = (np.arange(rows).repeat(75), words.ravel())
    matrix = scipy.sparse.csr_matrix((entries, place), (rows, columns))
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(1)).ravel())
    matrix = (scipy.sparse.diags(1 / norms) @ matrix).tocsc()
    coefficients = np.zeros(columns)
    used = generator.choice(columns // 5, min(100, columns // 5), False)
    coefficients[used] = generator.standard_normal(len(used))
    target = matrix @ coefficients
    return matrix, target + 0.5 * target.std() * generator.standard_normal(rows)


def large_sides(matrix: Any, target: Any, level: float) -> dict[str, Solve]:
    """Each side returns the coefficients; what it needs of the data is made beforehand."""
    rows, x = len(target), torch.tensor(target)
    sparse = scipy.sparse.issparse(matrix)
    atoms = matrix.T.tocsr() if sparse else torch.tensor(matrix.T.copy())
    alpha = level / rows

    def fit(model: Any) -> Solve:
        return lambda: model.fit(matrix, target).coef_

    sides: dict[str, Solve] = {
        "ours": lambda: sparse_code(x, atoms, sa.L1(level), method="cd"),
    }
    if installed("celer"):
        import celer

        sides["celer"] = fit(celer.Lasso(alpha, tol=1e-8, fit_intercept=False))
    if installed("skglm"):
        import skglm

        sides["skglm"] = fit(skglm.Lasso(alpha, tol=1e-6 * alpha, fit_intercept=False))
    return sides


def large(run: Run) -> None:
    """One lasso at four λ, as shares of the least λ whose coefficients are all zero."""
    problems = {
        "dense": dense_problem(*run.size((100, 10_000), (20, 60))),
        "sparse": sparse_problem(*run.size((20_000, 5000), (100, 100))),
    }
    results: dict[str, dict[str, float]] = {}
    for name, (matrix, target) in problems.items():
        largest = float(np.abs(matrix.T @ target).max())
        for share in run.size((0.1, 0.05, 0.01, 0.005), (0.1,)):
            sides = large_sides(matrix, target, share * largest)
            row: dict[str, float] = {}
            for side, solve in sides.items():
                codes = np.asarray(solve())[None]
                gap = largest_gap(target[None], matrix.T, codes, share * largest)
                assert gap <= 3e-6, (name, share, side, gap)
                row[f"gap {side}"] = float(f"{gap:.1e}")
                row["non-zero"] = int(np.count_nonzero(codes))
            times = run.alternate(sides, repeats=7, warmup=1)
            row |= {side: round(ms, 1) for side, ms in times.items()}
            results[f"{name}, λ = {share} λ_max"] = row
    run.write("sparse_coding_large", results)


def dictionary(run: Run) -> None:
    """The mean objective of learned dictionaries, by the same codes for all, and seconds."""
    digits = load_digits().data / 16
    image = load_sample_image("china.jpg").mean(2) / 255
    patches = extract_patches_2d(image, (8, 8), max_patches=run.size(4000, 50), random_state=0)
    patches = patches.reshape(len(patches), -1) - patches.mean((1, 2)).reshape(-1, 1)
    cases = {
        "digits": (digits[: run.size(2000, 50)] - digits.mean(0), 50, 0.2),
        "patches": (patches / patches.std(), 100, 1.0),
    }
    results: dict[str, dict[str, float]] = {}
    for name, (data, size, level) in cases.items():
        x, penalty = torch.tensor(data), sa.L1(level)
        atoms = run.size(size, 5)
        model = MiniBatchDictionaryLearning(
            atoms, alpha=level, max_iter=20, fit_algorithm="cd", random_state=0
        )

        def ours(method: Any, x: Tensor = x, atoms: int = atoms, penalty: sa.L1 = penalty) -> Solve:
            return lambda: fit_dictionary(x, atoms, penalty, method=method).atoms

        def peer(model: Any = model, data: Any = data) -> Tensor:
            return torch.tensor(model.fit(data).components_)

        sides: dict[str, Solve] = {
            "ours, alternating": ours("alternating"),
            "ours, online": ours("online"),
            "scikit-learn": peer,
        }
        row: dict[str, float] = {}
        for side, learn in sides.items():
            found = learn()
            codes = sparse_code(x, found, penalty, method="cd", tol=1e-8)
            objective = (x - codes @ found).square().sum() / 2 + penalty(codes)
            row[f"objective {side}"] = round(float(objective) / len(x), 4)
        times = run.alternate(sides, repeats=3, warmup=0)
        results[name] = row | {f"ms {side}": round(ms) for side, ms in times.items()}
    run.write("sparse_coding_dictionary", results)


def photograph_patches(count: int, held_out: bool) -> Any:
    """Patches of two photographs, 8×8 pixels between 0 and 1.

    They come from the left three quarters of each, or from the rest, which is held out.
    """
    parts = []
    for name in ("china.jpg", "flower.jpg"):
        image = load_sample_image(name).mean(2) / 255
        cut = image.shape[1] * 3 // 4
        side = image[:, cut:] if held_out else image[:, :cut]
        parts.append(extract_patches_2d(side, (8, 8), max_patches=count // 2, random_state=0))
    patches = np.concatenate(parts)
    return np.random.default_rng(0).permutation(patches.reshape(len(patches), -1))


def with_shifts(digits: Any) -> Any:
    """Images of 8×8 pixels, and each moved by a pixel in eight directions."""
    framed = np.pad(digits.reshape(-1, 8, 8), ((0, 0), (1, 1), (1, 1)))
    moved = [framed[:, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    return np.random.default_rng(0).permutation(np.concatenate(moved).reshape(-1, 64))


def without_mean(rows: Any) -> Any:
    return rows - rows.mean(1, keepdims=True)


def mean_objective(x: Tensor, atoms: Tensor, codes: Tensor, level: float) -> float:
    return float((x - codes @ atoms).square().sum() / 2 + level * codes.abs().sum()) / len(x)


def lista_rates(net: LISTA) -> list[dict[str, Any]]:
    """Encoders and thresholds are `step_size` times as large as atoms, and move by as much less."""
    small = [*net.encoders.parameters(), *net.thresholds.parameters()]
    return [
        {"params": small, "lr": 2e-2 * net.step_size},
        {"params": net.decoders.parameters(), "lr": 2e-3},
        {"params": [net.momenta], "lr": 1e-2},
    ]


def train_lista(x: Tensor, atoms: Tensor, level: float, steps: int) -> LISTA:
    """Ten layers, trained on the objective itself: no codes are needed."""
    net = LISTA(atoms, 10, level, tied=False, momentum=True)
    optimizer = torch.optim.Adam(lista_rates(net))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        batch = x[torch.randint(len(x), (min(512, len(x)),))]
        codes = net(batch)
        fit = (batch - codes @ atoms).square().sum() / 2
        loss = (fit + level * codes.abs().sum()) / len(batch)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step()
        schedule.step()
    return net


def lista(run: Run) -> None:
    """The objective of ten learned steps on held-out data, and the FISTA steps that reach it.

    Patches as they are share their mean, which makes the problem hard for FISTA: its steps are as
    short as the strongest direction wants. Without their means it is easy.
    """
    torch.manual_seed(0)
    digits = load_digits().data / 16
    digits = digits[np.random.default_rng(0).permutation(len(digits))]
    many, few = run.size((20_000, 500), (40, 20))
    data = {
        "digits": (with_shifts(digits[:-few]), digits[-few:]),
        "photographs": (photograph_patches(many, False), photograph_patches(few, True)),
    }
    for name, patches in list(data.items()):
        data[f"{name} without their means"] = tuple(map(without_mean, patches))
    results = {name: lista_row(run, *patches) for name, patches in data.items()}
    run.write("sparse_coding_lista", results)


def lista_row(run: Run, train: Any, test: Any, level: float = 0.1) -> dict[str, float]:
    x, held_out = (torch.tensor(patches, dtype=torch.float32) for patches in (train, test))
    penalty = sa.L1(level)
    atoms = fit_dictionary(x[:2000], run.size(128, 6), penalty).atoms.contiguous()
    net = train_lista(x, atoms, level, run.size(3000, 2))
    with torch.no_grad():
        learned = mean_objective(held_out, atoms, net(held_out), level)
    best = sparse_code(held_out.double(), atoms.double(), penalty, method="cd")
    row = {"LISTA, 10 steps": learned}
    row["optimum"] = mean_objective(held_out.double(), atoms.double(), best, level)
    for steps in range(10, run.size(400, 20) + 1, 10):
        codes = solve_sparse_code(held_out, atoms, penalty, steps=steps, tol=0).codes
        objective = mean_objective(held_out, atoms, codes, level)
        if steps in (10, 60):
            row[f"FISTA, {steps} steps"] = objective
        if objective <= learned:
            row["FISTA steps to LISTA's objective"] = steps
            break
    return {key: float(f"{value:.6g}") for key, value in row.items()}


PARTS = {
    "batch": batch,
    "curves": curves,
    "large": large,
    "dictionary": dictionary,
    "lista": lista,
}

if __name__ == "__main__":
    main(__doc__, PARTS, threads=THREADS)
