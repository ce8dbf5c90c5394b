"""Unfolded convolutional networks against ISTA on the matrix that the dictionary is."""

import copy
import itertools

import pytest
import torch
from skimage.data import camera

import sparsact as sa
from sparsact._common.errors import InputError
from sparsact.coding import CDLNet, ConvDictionary, ConvLISTA, noise_level


def ista(x, atoms, step, steps, lambd, positive=False):
    codes = x.new_zeros(len(x), len(atoms))
    for _ in range(steps):
        raised = codes + step * (x - codes @ atoms) @ atoms.mH
        codes = sa.L1(lambd).prox(raised.clamp(min=0) if positive else raised, step)
    return codes


def as_matrix(atoms, stride, size):
    """All shifts of all atoms that begin within a signal, as rows; what leaves it is cut off."""
    sides = atoms.shape[2:]
    starts = [range(0, max(n - k, 0) + stride, stride) for n, k in zip(size, sides, strict=True)]
    rows = []
    for atom in atoms:
        for place in itertools.product(*starts):
            room = [n + k + stride for n, k in zip(size, sides, strict=True)]
            signal = atoms.new_zeros(atoms.shape[1], *room)
            inside = [slice(p, p + k) for p, k in zip(place, sides, strict=True)]
            signal[(slice(None), *inside)] = atom
            rows.append(signal[(slice(None), *[slice(0, n) for n in size])].flatten())
    return torch.stack(rows)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    ("sides", "stride", "size"),
    [
        ((3,), 1, (9,)),
        ((3,), 2, (9,)),
        ((3, 3), 1, (6, 7)),
        ((4, 2), 2, (8, 6)),
        ((2,) * 3, 2, (4,) * 3),
    ],
    ids=str,
)
def test_untrained_it_equals_ista(sides, stride, size, tied, dtype):
    atoms = torch.randn(3, 2, *sides, dtype=dtype)
    x = torch.randn(2, 2, *size, dtype=dtype)
    for steps in (1, 5):
        net = ConvLISTA(atoms, steps, 0.3, stride=stride, tied=tied)
        with torch.no_grad():
            codes = net(x)
            assert codes.shape == ConvDictionary(atoms, stride).adjoint(x).shape
        matrix = as_matrix(atoms, stride, size)
        expected = ista(x.flatten(1), matrix, net.step_size, steps, 0.3)
        torch.testing.assert_close(codes.flatten(1), expected, rtol=0, atol=1e-6)
        largest = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
        assert net.step_size <= 1 / largest
        assert net.step_size >= 0.3 / largest


def test_positive_codes_and_sizes_that_do_not_fit():
    atoms, x = torch.randn(3, 1, 4, dtype=torch.float64), torch.randn(2, 1, 11, dtype=torch.float64)
    net = ConvLISTA(atoms, 6, 0.2, stride=3, positive=True)
    matrix = as_matrix(atoms, 3, (13,))[:, :11]
    expected = ista(x.flatten(1), matrix, net.step_size, 6, 0.2, positive=True)
    torch.testing.assert_close(net(x).flatten(1), expected, rtol=0, atol=1e-6)
    assert (net(x) >= 0).all()


def test_several_scales_are_one_dictionary():
    fine, coarse = (torch.randn(2, 1, k, k, dtype=torch.float64) for k in (2, 4))
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    net = ConvLISTA([fine, coarse], 4, 0.2, stride=[1, 2])
    codes = net(x)
    assert [tuple(each.shape) for each in codes] == [(2, 2, 7, 7), (2, 2, 3, 3)]
    matrix = torch.cat([as_matrix(fine, 1, (8, 8)), as_matrix(coarse, 2, (8, 8))])
    expected = ista(x.flatten(1), matrix, net.step_size, 4, 0.2)
    torch.testing.assert_close(
        torch.cat([each.flatten(1) for each in codes], 1), expected, rtol=0, atol=1e-6
    )


def test_momentum_comes_nearer():
    atoms, x = torch.randn(4, 1, 5, dtype=torch.float64), torch.randn(3, 1, 30, dtype=torch.float64)

    def objective(net):
        codes = net(x)
        return (x - ConvDictionary(atoms)(codes)).square().sum() / 2 + 0.2 * codes.abs().sum()

    plain, fast = ConvLISTA(atoms, 25, 0.2), ConvLISTA(atoms, 25, 0.2, momentum=True)
    assert objective(fast) < objective(plain)


def test_thresholds_are_proportional_to_the_noise():
    net = CDLNet(atoms=6, size=3, steps=4).double()
    x = torch.randn(3, 1, 12, 9, dtype=torch.float64)
    torch.testing.assert_close(net(3 * x, 0.6), 3 * net(x, 0.2))
    torch.testing.assert_close(net(3 * x), 3 * net(x))
    torch.testing.assert_close(net(x + 5, 0.2), net(x, 0.2) + 5)
    sigma = torch.tensor([0.1, 0.0, 0.4], dtype=torch.float64)
    together = net(x, sigma)
    for row in range(3):
        torch.testing.assert_close(together[row], net(x[row : row + 1], float(sigma[row]))[0])
    torch.testing.assert_close(together, net(x, sigma.view(3, 1, 1, 1)))
    assert together.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dims": 1}, {"dims": 3, "size": 2}])
def test_it_keeps_the_shape_and_every_parameter_learns(options):
    net = CDLNet(**({"channels": 2, "atoms": 5, "size": 3, "steps": 3, "momentum": True} | options))
    x = torch.randn(2, 2, *[9, 8, 7][: options.get("dims", 2)])
    loss = (net(x, 0.1) - x).square().sum() + (net(x) - x).square().sum()
    assert net(x).shape == x.shape
    loss.backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert name == "coder.momenta" or parameter.grad.any(), name
    again = copy.deepcopy(net)
    again.load_state_dict(net.state_dict())
    torch.testing.assert_close(again(x), net(x))


def test_parameter_counts():
    def count(net):
        return sum(parameter.numel() for parameter in net.parameters())

    assert count(CDLNet(1, 64, 7, 30)) == 60 * 64 * 49 + 30 * 64 == 190_080
    assert count(CDLNet(3, 64, 7, 15)) == 30 * 64 * 3 * 49 + 15 * 64 == 283_200
    assert count(CDLNet(1, [32, 16], [7, 11], 10)) == 20 * (32 * 49 + 16 * 121) + 10 * 48
    assert count(ConvLISTA(torch.ones(4, 2, 3), 5)) == 2 * 24 + 5 * 4
    assert count(ConvLISTA(torch.ones(4, 2, 3), 5, tied=False)) == 9 * 24 + 5 * 4


def test_any_threshold_fits():
    def hard(lambd, atoms):
        return sa.nn.Hardshrink(lambd, learnable=True, num_parameters=atoms, channel_dim=1)

    net = CDLNet(1, [4, 3], [3, 5], 3, stride=[1, 2], threshold=hard)
    net(torch.rand(2, 1, 16, 16), 0.1).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name


def test_it_compiles():
    net = CDLNet(1, 4, 3, 2)
    x = torch.rand(1, 1, 10, 10)
    torch.testing.assert_close(
        torch.compile(net, fullgraph=True, backend="eager")(x, 0.1), net(x, 0.1)
    )


def test_the_noise_level_of_a_photograph():
    clean = torch.tensor(camera())[None, None] / 255
    for sigma in (10 / 255, 25 / 255, 50 / 255):
        noisy = clean + sigma * torch.randn(2, 1, 512, 512)
        assert noise_level(noisy).shape == (2,)
        assert ((noise_level(noisy) - sigma).abs() < 0.15 * sigma).all()
    assert not noise_level(torch.ones(1, 1, 4, 4)).any()


def test_a_trained_net_denoises_a_photograph_at_levels_between():
    torch.manual_seed(0)
    image = torch.tensor(camera()) / 255
    net = CDLNet(1, 16, 5, 4, stride=2, lambd=2.0)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(120):
        corners = torch.randint(0, 480, (8, 2))
        clean = torch.stack([image[:300][a % 268 : a % 268 + 32, b : b + 32] for a, b in corners])
        sigma = (5 + 50 * torch.rand(8)) / 255
        noisy = clean[:, None] + sigma.view(-1, 1, 1, 1) * torch.randn(8, 1, 32, 32)
        loss = (net(noisy, sigma) - clean[:, None]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.05)
        optimizer.step()
    clean = image[None, None, 320:448, 100:228]
    for sigma in (20 / 255, 40 / 255):
        noisy = clean + sigma * torch.randn(clean.shape)
        with torch.no_grad():
            for level in (sigma, None):
                assert (net(noisy, level) - clean).square().mean() < 0.5 * sigma**2


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (lambda: ConvLISTA(torch.ones(3, 3), 2), "dictionary="),
        (lambda: ConvLISTA(torch.ones(0, 1, 3), 2), "at least one atom"),
        (lambda: ConvLISTA([], 2), "at least one tensor"),
        (lambda: ConvLISTA([torch.ones(1, 1, 3)], 2, stride=[1, 2]), "one number for each"),
        (lambda: ConvLISTA([torch.ones(1, 1, 3), torch.ones(1, 2, 3)], 2), "number of channels"),
        (lambda: ConvLISTA(torch.ones(1, 1, 3), 2, stride=4), "stride="),
        (lambda: ConvLISTA(torch.ones(1, 1, 3), 0), "steps="),
        (lambda: ConvLISTA(torch.ones(1, 1, 3) + 0j, 1, positive=True), "positive="),
        (lambda: ConvLISTA(torch.ones(1, 1, 3), 2)(torch.ones(1, 2, 9)), "does not fit atoms"),
        (lambda: ConvLISTA(torch.ones(1, 1, 3), 2)(torch.ones(1, 1, 9), -1.0), "sigma="),
        (lambda: CDLNet(1, [4, 4], [3, 3, 3]), "one number per scale"),
        (lambda: CDLNet(1, 0), "at least 1"),
        (lambda: CDLNet(1, 4, 3, 2)(torch.ones(1, 2, 9, 9)), r"x= must be \(batch, 1"),
        (lambda: CDLNet(1, 4, 7, 2)(torch.ones(1, 1, 6, 9)), "too small"),
        (lambda: noise_level(torch.ones(1, 1, 1)), "sizes above 1"),
    ],
)
def test_wrong_input_is_one_clear_error(run, message):
    with pytest.raises(InputError, match=message):
        run()
