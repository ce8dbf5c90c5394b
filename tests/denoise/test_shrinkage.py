"""`denoise_wavelet` against scikit-image and PyWavelets, and its own contract."""

import math
import warnings

import numpy as np
import pytest
import pywt
import torch

import sparsact as sa
import sparsact.functional as SF
from sparsact.denoise import denoise_wavelet, estimate_sigma
from sparsact.denoise.block_shrinkage import Shrinkage
from sparsact.denoise.blocks import Blocks
from sparsact.denoise.noise_levels import known_noise
from sparsact.denoise.wavelet_filters import filter_bank

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skimage import data, restoration

SIGMA = 25 / 255


def noisy(shape=(120, 101), seed=0):
    rng = np.random.default_rng(seed)
    camera = data.camera()[100 : 100 + shape[0], 150 : 150 + shape[1]] / 255
    return camera + SIGMA * rng.standard_normal(shape)


def blocks(seed=0, size=64, sigma=0.1, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    clean = torch.zeros(size, size, dtype=dtype)
    clean[size // 4 : -size // 4, size // 3 :] = 1
    return clean, clean + sigma * torch.randn(size, size, generator=generator, dtype=dtype)


@pytest.mark.parametrize("sigma", [None, SIGMA])
@pytest.mark.parametrize("shrink", ["soft", "hard"])
@pytest.mark.parametrize(
    ("threshold", "method"), [("bayes", "BayesShrink"), ("visu", "VisuShrink")]
)
@pytest.mark.parametrize("wavelet", ["haar", "db2", "sym4"])
def test_images_equal_scikit_image(wavelet, threshold, method, shrink, sigma):
    image = noisy()
    theirs = restoration.denoise_wavelet(
        image, sigma, wavelet, shrink, 3, method=method, rescale_sigma=True
    )
    ours = denoise_wavelet(torch.from_numpy(image), wavelet, 3, threshold, shrink, sigma)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(300,), (20, 21, 22)], ids=str)
def test_signals_and_volumes_equal_scikit_image(shape):
    x = np.random.default_rng(0).standard_normal(shape).cumsum(0)
    theirs = restoration.denoise_wavelet(x, wavelet="db2", wavelet_levels=2, rescale_sigma=True)
    ours = denoise_wavelet(torch.from_numpy(x), "db2", 2, dims=len(shape))
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("sigma", [None, 0.1])
@pytest.mark.parametrize("ycbcr", [False, True])
def test_colours_equal_scikit_image(ycbcr, sigma):
    rng = np.random.default_rng(0)
    image = data.astronaut()[:90, 100:201] / 255
    image = image + 0.1 * rng.standard_normal(image.shape)
    theirs = restoration.denoise_wavelet(
        image,
        sigma,
        "db2",
        wavelet_levels=4,
        convert2ycbcr=ycbcr,
        channel_axis=-1,
        rescale_sigma=True,
    )
    x = torch.from_numpy(image)
    ours = denoise_wavelet(x, "db2", sigma=sigma, channel_dim=-1, ycbcr=ycbcr)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    first = denoise_wavelet(x.movedim(-1, 0), "db2", sigma=sigma, channel_dim=0, ycbcr=ycbcr)
    torch.testing.assert_close(first.movedim(0, -1), ours)


@pytest.mark.parametrize("shape", [(64, 64), (37, 50)], ids=str)
@pytest.mark.parametrize("wavelet", ["haar", "db2"])
def test_estimate_equals_scikit_image(wavelet, shape):
    image = noisy(shape)
    diagonal = pywt.dwtn(image, wavelet)["dd"]
    expected = np.median(np.abs(diagonal[np.abs(diagonal) > 1e-12])) / 0.6744897501960817
    ours = estimate_sigma(torch.from_numpy(image), wavelet).item()
    assert ours == pytest.approx(expected, rel=1e-9)
    if wavelet == "db2":
        assert ours == pytest.approx(restoration.estimate_sigma(image), rel=1e-9)


@pytest.mark.parametrize("wavelet", ["haar", "db2", "sym4"])
def test_a_saturated_region_is_not_counted(wavelet):
    """Its coefficients are zeros up to rounding, which scikit-image counts (except Haar's)."""
    image = noisy((200, 200))
    sigma = estimate_sigma(torch.from_numpy(image), wavelet).item()
    image[:100] = 0.7
    assert estimate_sigma(torch.from_numpy(image), wavelet).item() == pytest.approx(sigma, rel=0.1)


def test_thresholds_by_band_equal_pywavelets():
    image = noisy()
    levels = [{"da": 0.3, "ad": 0.2, "dd": 0.1}, {"da": 0.2, "ad": 0.4, "dd": 0.5}]
    coefficients = pywt.wavedecn(image, "db2", level=2)
    for level, thresholds in zip(coefficients[1:], levels, strict=True):
        for key in level:
            level[key] = pywt.threshold(level[key], thresholds[key], "soft")
    theirs = pywt.waverecn(coefficients, "db2")[: image.shape[0], : image.shape[1]]
    ours = denoise_wavelet(torch.from_numpy(image), "db2", 2, threshold=levels)
    np.testing.assert_allclose(ours, theirs, atol=1e-10)
    one = denoise_wavelet(torch.from_numpy(image), "db2", 2, threshold=[0.3, 0.3])
    torch.testing.assert_close(
        one, denoise_wavelet(torch.from_numpy(image), "db2", 2, threshold=0.3)
    )


def test_stationary_equals_the_mean_of_all_shifts():
    """The shifts are computed with PyWavelets and compared away from the borders."""
    image, levels, margin = noisy((96, 90)), 2, 24
    total = np.zeros_like(image)
    for i in range(2**levels):
        for j in range(2**levels):
            coefficients = pywt.wavedecn(image[i:, j:], "db2", level=levels)
            for level in coefficients[1:]:
                for key in level:
                    level[key] = pywt.threshold(level[key], 0.2, "hard")
            back = pywt.waverecn(coefficients, "db2")
            total[i:, j:] += back[: image.shape[0] - i, : image.shape[1] - j]
    inner = (slice(margin, -margin),) * 2
    x = torch.from_numpy(image)
    for spins in ("all", 4, 9):
        ours = denoise_wavelet(x, "db2", levels, 0.2, "hard", cycle_spins=spins)
        np.testing.assert_allclose(ours[inner], total[inner] / 16, atol=1e-10)


def alike(values: torch.Tensor, place: int) -> torch.Tensor:
    """The coefficients of one shift in contexts similar to that of `place`, by a loop."""
    size = [abs(value) for value in values.tolist()]
    context = [
        np.mean([size[j] for j in (i - 1, i + 1) if 0 <= j < len(size)]) for i in range(len(size))
    ]
    order = np.argsort(context).tolist()
    rank = order.index(place)
    reach = max(50, len(size) // 50)
    return values[order[max(0, rank - reach) : rank + reach + 1]]


@pytest.mark.parametrize(("size", "shifts"), [(300, 1), (5200, 1), (601, 2), (702, 5), (37, 4)])
def test_bayes_thresholds_of_a_signal_come_from_coefficients_in_similar_contexts(size, shifts):
    from sparsact.denoise.threshold_rules import NoisyLevel, bayes

    torch.manual_seed(0)
    envelope = torch.linspace(0, 2, size, dtype=torch.float64).sin() ** 4
    values = 0.45 * torch.randn(2, 3, size, dtype=torch.float64) * (1 + 4 * envelope)
    sigma = torch.full((3, 1), 0.5, dtype=torch.float64)
    lambd = bayes(NoisyLevel(values, sigma, 1, shifts, averaged=True), size)
    assert lambd.shape == values.shape
    for i in range(0, size, 1 + size // 40):
        excess = alike(values[1, 2, i % shifts :: shifts], i // shifts).square().mean() - 0.25
        expected = 0.25 / excess.sqrt() if excess > 0 else values[1, 2].norm()
        torch.testing.assert_close(lambd[1, 2, i], expected)


def test_the_stationary_result_is_the_mean_of_shifts_with_their_own_thresholds():
    """The signal is zero near the borders, farther than a threshold reaches."""
    torch.manual_seed(0)
    signal = torch.zeros(2048, dtype=torch.float64)
    signal[600:1500] = torch.randn(900).double() * torch.linspace(0.5, 5, 900).double()
    later = torch.cat([torch.zeros(4, dtype=torch.float64), signal])
    noise = known_noise(0.8, torch.Size(), 1, signal, 3, None)
    four_shifts = Shrinkage(
        filter_bank("db2"), (3,), "mirror", "bayes", SF.softshrink, noise, 4, torch.Size()
    )
    # denoise_wavelet would compute 4 and 8 spins as all are
    halves = [four_shifts(Blocks(signal), 2**21), four_shifts(Blocks(later), 2**21)[4:]]
    every = denoise_wavelet(signal, levels=3, sigma=0.8, dims=1, cycle_spins="all")
    torch.testing.assert_close(every, torch.stack(halves).mean(0), rtol=0, atol=1e-12)
    assert (halves[0] - halves[1]).abs().max() > 0.1


@pytest.mark.parametrize(
    ("spins", "shape", "levels"),
    [(4, (300,), 3), (4, (64, 60), 4), (5, (64, 60), 3), (3, (16, 20, 18), 2), (2, (32, 32), 1)],
)
def test_many_spins_are_computed_as_all(spins, shape, levels):
    x = torch.randn(shape, dtype=torch.float64)
    options = {"levels": levels, "dims": len(shape)}
    many = denoise_wavelet(x, cycle_spins=spins, **options)
    assert torch.equal(many, denoise_wavelet(x, cycle_spins="all", **options))


@pytest.mark.parametrize("spins", [2, "all"])
def test_gradient_through_the_thresholds_of_a_signal(spins):
    torch.manual_seed(0)
    signal = torch.randn(2, 131, dtype=torch.float64) * torch.linspace(0.5, 5, 131).double()
    signal.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: denoise_wavelet(x, "haar", 1, sigma=1.0, cycle_spins=spins, dims=1), signal
    )


@pytest.mark.parametrize("spins", [1, "all"])
@pytest.mark.parametrize(("dims", "shape"), [(1, (3, 101)), (2, (2, 64, 51)), (3, (1, 17, 16, 19))])
def test_results_are_the_same_with_and_without_gradients(dims, shape, spins):
    """Compiled filters are used without gradients, and never in double precision."""
    x = torch.randn(shape)
    plain = denoise_wavelet(x, levels=2, cycle_spins=spins, dims=dims)
    tracked = denoise_wavelet(x.clone().requires_grad_(), levels=2, cycle_spins=spins, dims=dims)
    exact = denoise_wavelet(x.double(), levels=2, cycle_spins=spins, dims=dims)
    assert tracked.requires_grad
    torch.testing.assert_close(plain, tracked.detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(plain.double(), exact, rtol=1e-3, atol=1e-4)


def test_cycle_spins_are_the_mean_of_shifted_results():
    image = torch.from_numpy(noisy((64, 60)))
    ours = denoise_wavelet(image, "db2", 3, 0.2, cycle_spins=2)
    shifted = []
    for i in range(2):
        for j in range(2):
            padded = np.pad(image.numpy(), ((i, 0), (j, 0)), mode="symmetric")
            result = denoise_wavelet(torch.from_numpy(padded), "db2", 3, 0.2)
            shifted.append(result[i:, j:])
    torch.testing.assert_close(ours, torch.stack(shifted).mean(0))


def test_translation_invariance():
    image = torch.from_numpy(noisy((96, 96)))
    moved = denoise_wavelet(image[1:, 3:], "db2", 2, 0.2, cycle_spins="all")
    still = denoise_wavelet(image, "db2", 2, 0.2, cycle_spins="all")
    torch.testing.assert_close(moved[24:-24, 24:-24], still[25:-24, 27:-24])


def stein_risk(coefficients, lambd):
    y = np.abs(coefficients)
    return y.size - 2 * (y <= lambd).sum() + np.minimum(y, lambd).__pow__(2).sum()


def test_sure_finds_the_minimum_of_the_risk_or_the_universal_threshold():
    from sparsact.denoise.threshold_rules import NoisyLevel, sure

    rng = np.random.default_rng(0)
    for signal in (0.0, 0.3, 1.0, 3.0):
        values = rng.standard_normal(500) * (1 + signal * (rng.random(500) < 0.5))
        level = NoisyLevel(torch.from_numpy(2 * values)[None], torch.full((1,), 2.0), 1)
        lambd = sure(level, 1000).item() / 2
        universal = math.sqrt(2 * math.log(500))
        if np.mean(values**2) - 1 <= math.log2(500) ** 1.5 / math.sqrt(500):
            assert lambd == pytest.approx(universal)
        else:
            grid = [0.0, *np.abs(values)[np.abs(values) <= universal]]
            best = min(stein_risk(values, candidate) for candidate in grid)
            assert stein_risk(values, lambd) == pytest.approx(best)


def test_fdr_keeps_what_benjamini_and_hochberg_accept():
    from scipy.stats import false_discovery_control, norm

    from sparsact.denoise.threshold_rules import NoisyLevel, fdr

    rng = np.random.default_rng(0)
    for share in (0.0, 0.05, 0.5):
        values = rng.standard_normal(400) + 5 * (rng.random(400) < share)
        level = NoisyLevel(torch.from_numpy(values)[None], torch.ones(1, dtype=torch.float64), 1)
        lambd = fdr(level, 800).item()
        accepted = false_discovery_control(2 * norm.sf(np.abs(values))) <= 0.05
        np.testing.assert_array_equal(np.abs(values) > lambd, accepted)


@pytest.mark.parametrize("shrink", ["soft", "hard", "firm", "garrote", "scad", "half"])
@pytest.mark.parametrize("threshold", ["bayes", "visu", "sure", "fdr"])
def test_every_rule_and_shrinkage_removes_noise(threshold, shrink):
    clean, image = blocks()
    result = denoise_wavelet(image, "haar", 3, threshold, shrink)
    assert (result - clean).std() < 0.75 * (image - clean).std()


def test_a_function_as_shrinkage():
    _, image = blocks()
    named = denoise_wavelet(image, threshold=0.2, shrink="garrote")
    torch.testing.assert_close(denoise_wavelet(image, threshold=0.2, shrink=SF.garrote), named)


@pytest.mark.parametrize("spins", [1, "all"])
@pytest.mark.parametrize("piece", [1, 2**20])
def test_blocks_of_a_batch_do_not_affect_each_other(piece, spins):
    batch = torch.stack([blocks(seed, sigma=0.1 * (1 + seed))[1] for seed in range(4)])
    options = {"cycle_spins": spins, "samples_at_once": piece}
    together = denoise_wavelet(batch.reshape(2, 2, 64, 64), **options)
    apart = torch.stack([denoise_wavelet(image, cycle_spins=spins) for image in batch])
    torch.testing.assert_close(together.reshape(4, 64, 64), apart)
    sigma = torch.tensor([[0.1], [0.2]], dtype=torch.float64)
    known = denoise_wavelet(batch.reshape(2, 2, 64, 64), sigma=sigma, **options)
    row = denoise_wavelet(batch[2:], sigma=0.2, cycle_spins=spins)
    torch.testing.assert_close(known[1], row)


def test_noise_of_each_level():
    """Noise at coarse scales only: the finest band does not contain it."""
    torch.manual_seed(0)
    coarse = (
        torch.randn(16, 16, dtype=torch.float64).repeat_interleave(8, 0).repeat_interleave(8, 1)
    )
    fine = 1e-3 * torch.randn(128, 128, dtype=torch.float64)
    noise = coarse + fine
    once = denoise_wavelet(noise, "haar", 5, "visu")
    by_level = denoise_wavelet(noise, "haar", 5, "visu", sigma="level")
    assert once.std() > 0.9 * noise.std()
    assert by_level.std() < 0.5 * noise.std()


@pytest.mark.parametrize("spins", [1, "all"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(dtype, spins):
    _, image = blocks(dtype=torch.float32)
    exact = denoise_wavelet(image.to(dtype).double(), levels=1, cycle_spins=spins)
    result = denoise_wavelet(image.to(dtype), levels=1, cycle_spins=spins)
    assert result.dtype == dtype
    resolution = torch.finfo(dtype).eps
    torch.testing.assert_close(result.double(), exact, rtol=resolution, atol=8 * resolution)


@pytest.mark.parametrize("threshold", ["bayes", "visu", "fdr", "sure", 0.3])
@pytest.mark.parametrize("spins", [1, "all"])
def test_gradcheck(threshold, spins):
    image = blocks(size=12)[1].requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x: denoise_wavelet(x, "haar", 1, threshold, cycle_spins=spins), image
    )


def test_gradient_to_threshold_and_sigma():
    image = blocks(size=12)[1]
    lambd = torch.tensor(0.2, dtype=torch.float64, requires_grad=True)
    sigma = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: denoise_wavelet(image, threshold=t), lambd)
    assert torch.autograd.gradcheck(lambda s: denoise_wavelet(image, sigma=s), sigma)


def test_layouts():
    image = torch.from_numpy(noisy((40, 50)))
    expected = denoise_wavelet(image)
    torch.testing.assert_close(denoise_wavelet(image.T.contiguous().T), expected)
    stacked = torch.stack([image, image], dim=1)
    torch.testing.assert_close(denoise_wavelet(stacked, dims=(0, 2))[:, 1], expected)
    torch.testing.assert_close(denoise_wavelet(stacked, channel_dim=1)[:, 0], expected)
    rows = denoise_wavelet(image, dims=1)
    torch.testing.assert_close(rows[3], denoise_wavelet(image[3], dims=1))


def test_a_constant_image_is_not_changed():
    image = torch.full((32, 32), 0.7)
    for threshold in ("bayes", "visu", "sure", "fdr"):
        torch.testing.assert_close(denoise_wavelet(image, threshold=threshold), image)
    assert estimate_sigma(image) == 0


def test_an_empty_batch():
    assert denoise_wavelet(torch.empty(0, 32, 32)).shape == (0, 32, 32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"wavelet": "db22x"}, "did you mean"),
        ({"threshold": "bays"}, "did you mean 'bayes'"),
        ({"shrink": "sotf"}, "did you mean 'soft'"),
        ({"threshold": -1.0}, "not negative"),
        ({"threshold": [0.1]}, "each of the 2 levels"),
        ({"threshold": [0.1, {"dd": 1.0}]}, "'ad', 'da', 'dd'"),
        ({"threshold": torch.ones(3)}, "batch's shape"),
        ({"sigma": -0.1}, "sigma"),
        ({"sigma": "levels"}, "'level'"),
        ({"sigma": torch.ones(3)}, "batch's shape"),
        ({"levels": 9}, "between 1 and 3"),
        ({"levels": 0}, "between 1 and 3"),
        ({"cycle_spins": 0}, "cycle_spins"),
        ({"cycle_spins": "every"}, "cycle_spins"),
        ({"dims": 3}, "dims=3"),
        ({"dims": (0, 0)}, "different dims"),
        ({"channel_dim": 5}, "channel_dim=5"),
        ({"ycbcr": True}, "channel_dim"),
        ({"ycbcr": True, "channel_dim": 0, "dims": 1}, "3 channels"),
        ({"wavelet": "db20"}, "smaller than the filter of db20"),
    ],
)
def test_wrong_arguments(arguments, message):
    options = {"levels": 2} | arguments
    if "wavelet" in arguments:
        options["levels"] = None
    with pytest.raises(ValueError, match=message):
        denoise_wavelet(torch.randn(32, 32), **options)


def test_wrong_inputs():
    for wrong in (torch.ones(8, 8, dtype=torch.bool), np.array([["a"]]), [[True]], "text", None):
        with pytest.raises(TypeError, match="denoise_wavelet expects"):
            denoise_wavelet(wrong)
    with pytest.raises(TypeError, match="NoneType"):
        denoise_wavelet(torch.randn(32, 32), threshold=None)
    image = torch.randn(32, 32)
    for wrong in (-math.inf, math.inf):
        image[5, 7] = wrong
        with pytest.raises(ValueError, match="infinite entries"):
            denoise_wavelet(image)


def test_the_public_name():
    assert sa.denoise_wavelet is denoise_wavelet
    with pytest.raises(AttributeError, match="denoise_wavelt"):
        _ = sa.denoise_wavelt
