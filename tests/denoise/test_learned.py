"""The layer `WaveletShrink` and `fit_denoiser`."""

import copy

import pytest
import torch

from sparsact.denoise import WaveletShrink, denoise_wavelet, fit_denoiser


def pictures(count=6, size=64):
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(count, size, size)
    for image in images:
        for _ in range(6):
            top, left = torch.randint(size - 8, (2,), generator=generator).tolist()
            height, width = torch.randint(6, 40, (2,), generator=generator).tolist()
            image[top : top + height, left : left + width] += torch.rand((), generator=generator)
    return images


def error(result, clean):
    return (result - clean).square().mean().item()


@pytest.mark.parametrize("shrink", ["soft", "firm", "garrote", "scad", "half", "hard"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_equals_the_function_at_its_start(dims, shrink):
    x = torch.randn(2, *(16,) * dims, dtype=torch.float64)
    layer = WaveletShrink("haar", 2, dims, shrink=shrink, lambd=0.7)
    expected = denoise_wavelet(x, "haar", 2, 0.7, shrink, cycle_spins="all", dims=dims)
    torch.testing.assert_close(layer(x), expected)
    relative = WaveletShrink("haar", 2, dims, shrink=shrink, lambd=0.7, relative=True)
    torch.testing.assert_close(relative(x, sigma=2.0), layer(x * 0.5) * 2)


def test_relative_estimates_the_noise_of_each_block():
    x = torch.randn(3, 32, 32) * torch.tensor([0.1, 1.0, 10.0]).reshape(3, 1, 1)
    layer = WaveletShrink("db2", 2, relative=True, lambd=3.0)
    together = layer(x)
    for block, result in zip(x, together, strict=True):
        torch.testing.assert_close(layer(block), result)
        assert result.std() < 0.6 * block.std()


def test_a_threshold_per_channel():
    layer = WaveletShrink("haar", 1, channels=3, shrink="soft", stationary=False)
    with torch.no_grad():
        layer.lambd[:, :, 1] = 0
        layer.lambd[:, :, 2] = 100
    x = torch.randn(2, 3, 8, 8)
    result = layer(x)
    torch.testing.assert_close(result[:, 1], x[:, 1])
    flat = x[:, 2].reshape(2, 4, 2, 4, 2).mean((2, 4))
    torch.testing.assert_close(result[:, 2, ::2, ::2], flat)


@pytest.mark.parametrize("shrink", ["soft", "firm", "garrote"])
def test_gradcheck(shrink):
    torch.manual_seed(1)
    layer = WaveletShrink("haar", 1, channels=2, shrink=shrink, lambd=0.6).double()
    x = torch.randn(1, 2, 6, 7, dtype=torch.float64, requires_grad=True)
    names = list(dict(layer.named_parameters()))

    def call(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), x)

    assert torch.autograd.gradcheck(call, (x, *layer.parameters()))


def test_state_and_copies():
    layer = WaveletShrink("db2", 2, channels=4, shrink="firm")
    torch.nn.init.uniform_(layer.lambd)
    other = WaveletShrink("db2", 2, channels=4, shrink="firm")
    other.load_state_dict(layer.state_dict())
    x = torch.randn(1, 4, 20, 20)
    torch.testing.assert_close(other(x), layer(x))
    torch.testing.assert_close(copy.deepcopy(layer)(x), layer(x))
    assert set(layer.state_dict()) == {"lambd", "width"}
    assert "channels=4" in repr(layer)


def test_in_a_network_with_autocast():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1), WaveletShrink(channels=4, levels=1)
    )
    with torch.autocast("cpu", torch.bfloat16):
        out = net(torch.randn(2, 1, 16, 16))
    out.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_learning_from_clean_images_beats_bayes_on_new_images():
    images, sigma = pictures(), 0.1
    model = fit_denoiser(images[:4], sigma, levels=3, crop=48, steps=40)
    noisy = images[4:] + sigma * torch.randn(2, 64, 64)
    with torch.no_grad():
        learned = error(model(noisy, sigma), images[4:])
    bayes = denoise_wavelet(noisy, "db2", 3, sigma=sigma, cycle_spins="all")
    assert learned < 0.8 * error(bayes, images[4:])


@pytest.mark.parametrize("sigma", [0.1, None])
def test_learning_from_noisy_images_alone_is_nearly_as_good(sigma):
    images = pictures()
    noisy = images + 0.1 * torch.randn(images.shape)
    options = {"levels": 3, "crop": 48, "steps": 40}
    from_clean = fit_denoiser(images, 0.1, **options)
    from_noisy = fit_denoiser(list(noisy), sigma, clean=False, **options)
    with torch.no_grad():
        with_clean = error(from_clean(noisy, 0.1), images)
        without = error(from_noisy(noisy, 0.1), images)
    assert without < 1.15 * with_clean
    assert without < 0.3 * error(noisy, images)


def test_the_same_seed_learns_the_same():
    images = pictures(2, 32)
    models = [fit_denoiser(images, 0.1, levels=1, crop=32, steps=3) for _ in range(2)]
    torch.testing.assert_close(models[0].state_dict(), models[1].state_dict())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": None}, "sigma"),
        ({"sigma": 0.0}, "positive"),
        ({"sigma": 0.1, "clean": False, "shrink": "hard"}, "continuous"),
        ({"sigma": 0.1, "shrink": "sotf"}, "did you mean 'soft'"),
        ({"sigma": 0.1, "crop": 2}, "smaller than the filter"),
        ({"sigma": 0.1, "dims": 5}, "fewer than dims=5 dims"),
    ],
)
def test_wrong_arguments_of_the_fit(arguments, message):
    with pytest.raises(ValueError, match=message):
        fit_denoiser(torch.randn(2, 32, 32), **arguments)


def test_no_images():
    with pytest.raises(ValueError, match="at least one"):
        fit_denoiser([], 0.1)
    with pytest.raises(TypeError, match="floating-point"):
        fit_denoiser([torch.ones(32, 32, dtype=torch.uint8)], 0.1)


def test_wrong_inputs_of_the_layer():
    layer = WaveletShrink("haar", 1, channels=3)
    with pytest.raises(ValueError, match="channels=3"):
        layer(torch.randn(1, 2, 8, 8))
    with pytest.raises(ValueError, match="too few dims"):
        layer(torch.randn(8, 8))
    with pytest.raises(ValueError, match="smaller"):
        layer(torch.randn(1, 3, 1, 1))
    with pytest.raises(ValueError, match="relative"):
        layer(torch.randn(1, 3, 8, 8), sigma=1.0)
    with pytest.raises(ValueError, match="at least 1"):
        WaveletShrink(levels=0)
