"""`denoise_learned` and its network."""

import itertools
import warnings

import numpy as np
import pytest
import torch
from scipy.fft import dctn, idctn

import sparsact.denoise.learned_denoising as learned_denoising
from sparsact._common.errors import InputError
from sparsact.denoise import PoissonNoise, denoise_learned, denoise_wavelet, estimate_sigma
from sparsact.denoise.learned_denoising import WEIGHTS, shipped_network
from sparsact.denoise.shrinkage_network import ShrinkageNetwork

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skimage import data


def psnr(x, clean):
    return -10 * np.log10(np.square(np.asarray(x, float) - clean).mean())


def photo(sigma=25, size=96):
    clean = data.camera()[80 : 80 + size, 180 : 180 + size] / 255
    return clean, clean + sigma / 255 * np.random.default_rng(0).standard_normal(clean.shape)


def colour_photo(sigma=25, size=96):
    clean = data.astronaut()[:size, 180 : 180 + size] / 255
    return clean, clean + sigma / 255 * np.random.default_rng(0).standard_normal(clean.shape)


def test_the_files_are_small():
    sizes = [file.stat().st_size for file in WEIGHTS.iterdir()]
    assert sum(sizes) < 1.5e6
    for channels in (1, 3):
        network = shipped_network(channels, torch.device("cpu"))
        assert sum(weight.numel() for weight in network.parameters()) <= 300_000
        assert all(weight.isfinite().all() for weight in network.parameters())


def test_one_untrained_step_shrinks_the_cosine_transform_of_all_even_blocks():
    x = np.random.default_rng(0).standard_normal((20, 22))
    expected = np.zeros_like(x)
    for i, j in itertools.product(range(0, 13, 2), range(0, 15, 2)):
        coefficients = dctn(x[i : i + 8, j : j + 8], norm="ortho")
        lambdas = np.full((8, 8), 2.5)
        lambdas[0, 0] = 0.0
        shrunk = np.sign(coefficients) * np.maximum(np.abs(coefficients) - lambdas, 0)
        expected[i : i + 8, j : j + 8] += idctn(shrunk, norm="ortho") / 16
    with torch.no_grad():
        result = ShrinkageNetwork(1, 1).double()(torch.tensor(x)[None, None], 1.0)
    np.testing.assert_allclose(result[0, 0], expected, atol=1e-6)


def test_phases_are_a_dictionary_at_every_second_pixel():
    network = ShrinkageNetwork(3, 3).double()
    for weight in network.parameters():
        weight.data += 0.02 * torch.randn(weight.shape, dtype=torch.float64)
    coder = network.net.coder
    x = 0.3 * torch.randn(2, 3, 24, 26, dtype=torch.float64)

    def atoms(weights):
        return torch.nn.functional.pixel_shuffle(weights, 2)

    codes = torch.zeros(2, 80, 9, 10, dtype=torch.float64)
    residual = x / 0.1
    for step in range(3):
        raised = codes + torch.conv2d(residual, atoms(coder.encoders[step]), stride=2)
        lambd = coder.thresholds[step].lambd.abs().view(-1, 1, 1)
        codes = raised.sign() * (raised.abs() - lambd).clamp(min=0)
        decoder = coder.decoders[step] if step < 2 else network.net.dictionary[0]
        image = torch.conv_transpose2d(codes, atoms(decoder), stride=2)
        residual = x / 0.1 - image
    torch.testing.assert_close(network(x, 0.1), 0.1 * image)


@pytest.mark.parametrize("sigma", [25, 50])
def test_it_is_better_than_wavelets(sigma):
    clean, noisy = photo(sigma)
    wavelet = denoise_wavelet(noisy, cycle_spins="all", sigma=sigma / 255)
    assert psnr(denoise_learned(noisy, sigma=sigma / 255), clean) > psnr(wavelet, clean) + 0.8


@pytest.mark.parametrize("sigma", [15, 50])
def test_colours_together_are_better_than_one_by_one(sigma):
    clean, noisy = colour_photo(sigma)
    together = denoise_learned(noisy, channel_dim=-1, sigma=sigma / 255)
    single = denoise_learned(np.moveaxis(noisy, -1, 0), sigma=sigma / 255)
    assert psnr(together, clean) > psnr(np.moveaxis(single, 0, -1), clean) + 0.3


def test_the_place_of_the_channels_does_not_matter():
    _, noisy = colour_photo(size=40)
    x = torch.tensor(np.stack([noisy, noisy[::-1]]))
    expected = denoise_learned(x, channel_dim=-1)
    for channel, order in ((1, (0, 3, 1, 2)), (2, (0, 1, 3, 2)), (0, (3, 0, 1, 2))):
        moved = denoise_learned(x.permute(order), channel_dim=channel)
        torch.testing.assert_close(moved, expected.permute(order))


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_numbers_of_channels_are_denoised_one_by_one(channels):
    x = np.stack([photo(size=40)[1]] * channels, -1)
    result = denoise_learned(x, channel_dim=-1)
    expected = denoise_learned(x[..., 0])
    np.testing.assert_allclose(result, np.stack([expected] * channels, -1), atol=1e-6)


def test_without_sigma_it_is_estimated_for_each_image():
    _, noisy = photo(size=64)
    batch = np.stack([noisy, 3 * noisy])
    sigma = estimate_sigma(batch)
    result = denoise_learned(batch)
    np.testing.assert_array_equal(result, denoise_learned(batch, sigma=sigma))
    for one, level, image in zip(batch, sigma, result, strict=True):
        np.testing.assert_allclose(denoise_learned(one, sigma=float(level)), image, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 255.0, 1e6])
def test_units_do_not_matter(scale):
    _, noisy = photo(size=64)
    expected = denoise_learned(noisy)
    result = denoise_learned(scale * (noisy - 7.0))
    np.testing.assert_allclose(result / scale + 7.0, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.int64])
def test_integers(dtype):
    noisy = np.clip(photo(size=48)[1] * 255, 0, 255).round()
    result = denoise_learned(noisy.astype(dtype), sigma=25)
    assert result.dtype == dtype
    expected = denoise_learned(noisy, sigma=25.0)
    info = np.iinfo(dtype)
    assert np.abs(result - expected.clip(info.min, info.max)).max() <= 0.51


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats(dtype):
    noisy = torch.tensor(photo(size=48)[1]).to(dtype)
    result = denoise_learned(noisy, sigma=0.1)
    assert result.dtype == dtype
    expected = denoise_learned(noisy.double(), sigma=0.1)
    torch.testing.assert_close(result, expected.to(dtype), atol=1e-5, rtol=torch.finfo(dtype).eps)


def test_lists_and_masked_arrays():
    noisy = photo(size=64)[1]
    expected = denoise_learned(noisy)
    result = denoise_learned(noisy.tolist())
    assert isinstance(result, list)
    np.testing.assert_array_equal(result, expected)
    masked = denoise_learned(np.ma.MaskedArray(noisy, noisy > 0.95))
    np.testing.assert_array_equal(masked.mask, noisy > 0.95)
    np.testing.assert_array_equal(masked.data[masked.mask], noisy[noisy > 0.95])


def test_half_the_weights_are_not_lost_in_float32():
    _, noisy = photo(size=48)
    wide = ShrinkageNetwork(1, 12).double()
    wide.load_state_dict(shipped_network(1, torch.device("cpu")).state_dict())
    expected = denoise_learned(noisy, network=wide.requires_grad_(False))
    np.testing.assert_allclose(denoise_learned(noisy), expected, atol=1e-5)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (2, 3), (5, 1), (8, 8), (17, 33), (3, 70)])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(size, channels):
    x = np.random.default_rng(0).standard_normal((*size, channels))
    with pytest.warns(UserWarning, match="σ is"):
        result = denoise_learned(x, sigma=1.0, channel_dim=-1)
    assert result.shape == x.shape
    assert np.isfinite(result).all()


@pytest.mark.parametrize("shape", [(0, 8, 8), (2, 0, 8), (0, 3, 8, 8)])
def test_nothing(shape):
    assert denoise_learned(torch.zeros(shape), sigma=1.0).shape == shape


def test_a_mirrored_image_gives_a_mirrored_result_up_to_what_the_network_learned():
    clean, noisy = photo()
    result, mirrored = denoise_learned(noisy), denoise_learned(noisy[:, ::-1])[:, ::-1]
    assert abs(psnr(result, clean) - psnr(mirrored, clean)) < 0.2


@pytest.mark.parametrize(("channels", "size"), [(1, (150, 231)), (3, (131, 160))])
def test_tiles_equal_the_whole(channels, size, monkeypatch):
    x = np.random.default_rng(0).random((*size, channels)).cumsum(0)
    whole = denoise_learned(x, sigma=1.0, channel_dim=-1)
    monkeypatch.setattr(learned_denoising, "TILE", 48)
    tiled = denoise_learned(x, sigma=1.0, channel_dim=-1)
    assert np.abs(tiled - whole).max() < 1e-4


def test_a_result_depends_on_the_reach_alone():
    network = shipped_network(1, torch.device("cpu"))
    x = torch.zeros(1, 1, 400, 400, requires_grad=True)
    noise = torch.randn(x.shape)
    (gradient,) = torch.autograd.grad(network(x + noise, 1.0)[..., 200, 201], x)
    places = gradient[0, 0].nonzero()
    assert (places - torch.tensor([200, 201])).abs().max() <= network.reach


def test_small_images_of_a_batch_do_not_mix(monkeypatch):
    x = torch.randn(5, 20, 24, generator=torch.Generator().manual_seed(0)).cumsum(-1)
    expected = torch.stack([denoise_learned(image, sigma=0.5) for image in x])
    for pixels in (2**20, 1000, 1):
        monkeypatch.setattr(learned_denoising, "AT_ONCE", pixels)
        torch.testing.assert_close(denoise_learned(x, sigma=0.5), expected, atol=1e-4, rtol=0)


def test_the_same_twice():
    _, noisy = photo(size=64)
    np.testing.assert_array_equal(denoise_learned(noisy), denoise_learned(noisy))


@pytest.mark.parametrize("as_mask", [False, True])
def test_missing_values_are_kept(as_mask):
    clean, noisy = photo()
    holes = np.random.default_rng(1).random(noisy.shape) < 0.05
    broken = np.where(holes, -9999.0 if as_mask else np.nan, noisy)
    result = denoise_learned(broken, mask=~holes if as_mask else None)
    np.testing.assert_array_equal(result[holes], broken[holes])
    assert psnr(result[~holes], clean[~holes]) > psnr(denoise_learned(noisy), clean) - 1.0


def test_images_without_noise_are_left_alone():
    drawing = np.zeros((64, 64), np.uint8)
    drawing[20:40, 8:50] = 200
    noisy = np.clip(photo(size=64)[1] * 255, 0, 255).astype(np.uint8)
    result = denoise_learned(np.stack([drawing, noisy]))
    np.testing.assert_array_equal(result[0], drawing)
    assert (result[1] != noisy).mean() > 0.5
    np.testing.assert_array_equal(denoise_learned(noisy, sigma=0), noisy)


@pytest.mark.parametrize(
    ("sigma", "dtype", "warns"),
    [
        (1, np.uint8, True),
        (2, np.uint8, False),
        (75, np.uint8, False),
        (80, np.uint8, True),
        (0.004, float, True),
        (0.1, float, False),
        (0.5, float, True),
    ],
)
def test_noise_outside_the_training_is_said(sigma, dtype, warns):
    clean, _ = photo(size=64)
    x = (clean * 255).astype(np.uint8) if dtype == np.uint8 else clean
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        denoise_learned(np.stack([x, x]), sigma=sigma)
    assert [str(each.message)[:20] for each in seen] == ["denoise_learned: σ i"] * warns


def test_photon_noise():
    clean, _ = photo()
    counts = np.random.default_rng(0).poisson(clean * 20).astype(float)
    plain = denoise_learned(counts) / 20
    for noise in ("poisson", PoissonNoise(gain=1.0)):
        stable = denoise_learned(counts, noise=noise) / 20
        assert psnr(stable, clean) > psnr(plain, clean)


def test_gradient():
    network = ShrinkageNetwork(1, 2).double().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(10, 11, dtype=torch.float64, generator=generator)).requires_grad_()

    def function(x):
        return denoise_learned(x, sigma=1.0, network=network)

    torch.autograd.gradcheck(function, (x,), atol=1e-5)
    shipped = denoise_learned(x.float(), sigma=1.0)
    assert shipped.requires_grad
    assert not denoise_learned(x.detach(), sigma=1.0).requires_grad


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (torch.ones(9), {}, "dims=2"),
        (torch.ones(3, 9), {"channel_dim": 0}, "dims=2"),
        (torch.ones(9, 9), {"channel_dim": 5}, "channel_dim=5"),
        (torch.ones(9, 9), {"sigma": -1.0}, "sigma="),
        (torch.ones(9, 9), {"sigma": "level"}, "sigma= must be a number"),
        (torch.ones(9, 9), {"sigma": [1.0]}, "sigma= must be a number"),
        (torch.ones(9, 9), {"sigma": float("nan")}, "sigma="),
        (torch.ones(9, 9), {"sigma": torch.ones(9, 9)}, "sigma="),
        (torch.ones(2, 9, 9), {"sigma": torch.ones(3)}, "sigma="),
        (torch.ones(9, 9, 3), {"sigma": torch.ones(3), "channel_dim": -1}, "sigma="),
        (torch.ones(9, 9), {"sigma": 1.0, "noise": "poisson"}, "sigma="),
        (torch.ones(9, 9), {"noise": "pink"}, "unknown noise"),
        (-torch.ones(9, 9), {"noise": "poisson"}, "Poisson"),
        (torch.full((9, 9), torch.inf), {}, "infinite"),
        (torch.ones(9, 9), {"mask": torch.ones(2, 9, 9) > 0}, "mask="),
        (torch.ones(2, 2), {}, "filter"),
        ([[1.0, 2.0], [1.0]], {}, "lengths"),
        (torch.ones(9, 9), {"network": ShrinkageNetwork(3, 1)}, "network="),
    ],
)
def test_wrong_input(x, options, message):
    with pytest.raises(InputError, match=message):
        denoise_learned(x, **options)


@pytest.mark.parametrize(
    ("x", "options"),
    [
        ("image", {}),
        (None, {}),
        (torch.ones(9, 9) * 1j, {}),
        (np.array([["a"]]), {}),
        (torch.ones(9, 9), {"sigma": True}),
        (torch.ones(9, 9), {"mask": torch.ones(9, 9)}),
        (torch.ones(9, 9), {"noise": 3}),
    ],
)
def test_wrong_kinds(x, options):
    with pytest.raises(TypeError):
        denoise_learned(x, **options)
