"""The built-in networks: an MLP, a convolutional net, a residual net and a transformer."""

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from sparsact._common.errors import InputError

NetworkName = Literal["mlp", "convnet", "resnet", "transformer"]
ImageShape = tuple[int, int, int]
PLACES = ("*act*",)
"""The activations of every network are modules with such names."""

CHANNELS = (16, 32)
BLOCKS = 2
TOKEN_WIDTH = 32
HEADS = 4
PATCHES_A_SIDE = 8


def network_maker(
    name: NetworkName,
    inputs: int,
    hidden: tuple[int, ...],
    outputs: int,
    image_shape: ImageShape | None = None,
) -> Callable[[], nn.Module]:
    """A function that makes a built-in network, with ReLU, from torch's random generator.

    Args:
        name: ``mlp``; ``convnet``, two convolutions with pooling; ``resnet``, residual blocks,
            of convolutions for images and of linear layers otherwise; ``transformer``, two blocks
            over patches of an image or over features.
        inputs: number of features; the network takes (samples, features).
        hidden: widths of the hidden layers of the MLP; of any other network, `hidden[-1]` is the
            width of its last layer.
        outputs: width of the output.
        image_shape: height, width and channels, if the features are an image.

    Raises:
        InputError: the network needs images, and the data are none.

    Example:
        >>> make = network_maker("convnet", 64, (32,), 10, image_shape=(8, 8, 1))
        >>> make()(torch.zeros(5, 64)).shape
        torch.Size([5, 10])
    """
    if name == "mlp":
        return lambda: mlp(inputs, hidden, outputs)
    if name == "convnet" and image_shape is None:
        raise InputError("model=convnet needs images; the data are none. Use model=mlp or resnet")
    if name == "convnet" and image_shape is not None:
        return lambda: convnet(image_shape, hidden[-1], outputs)
    if name == "resnet":
        return lambda: resnet(inputs, image_shape, hidden[-1], outputs)
    return lambda: Transformer(inputs, image_shape, outputs)


def mlp(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Module:
    """An MLP with ReLU between its linear layers."""
    linears = [nn.Linear(a, b) for a, b in pairwise([inputs, *hidden, outputs])]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for i, linear in enumerate(linears[:-1], 1):
        layers[f"linear{i}"] = linear
        layers[f"act{i}"] = nn.ReLU()
    layers["head"] = linears[-1]
    return nn.Sequential(layers)


def convnet(image_shape: ImageShape, hidden: int, outputs: int) -> nn.Module:
    """Two 3×3 convolutions, each with pooling, and two linear layers."""
    height, width, channels = image_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict(image=ToImage(image_shape))
    for i, (a, b) in enumerate(pairwise([channels, *CHANNELS]), 1):
        layers[f"conv{i}"] = nn.Conv2d(a, b, 3, padding=1)
        layers[f"act{i}"] = nn.ReLU()
        if min(height, width) > 1:
            layers[f"pool{i}"] = nn.MaxPool2d(2)
            height, width = height // 2, width // 2
    layers["flatten"] = nn.Flatten()
    layers["linear"] = nn.Linear(CHANNELS[-1] * height * width, hidden)
    layers["act3"] = nn.ReLU()
    layers["head"] = nn.Linear(hidden, outputs)
    return nn.Sequential(layers)


def resnet(inputs: int, image_shape: ImageShape | None, hidden: int, outputs: int) -> nn.Module:
    """Residual blocks: of convolutions for an image, of linear layers for other features."""
    if image_shape is None:
        blocks: list[nn.Module] = [Residual(nn.Linear, nn.LayerNorm, hidden) for _ in range(BLOCKS)]
        layers = OrderedDict(stem=nn.Linear(inputs, hidden), blocks=nn.Sequential(*blocks))
        layers |= {"norm": nn.LayerNorm(hidden), "act": nn.ReLU()}
        return nn.Sequential(layers | {"head": nn.Linear(hidden, outputs)})
    first, last = CHANNELS
    stages: OrderedDict[str, nn.Module] = OrderedDict(
        image=ToImage(image_shape),
        stem=nn.Conv2d(image_shape[2], first, 3, padding=1),
        block1=Residual(_convolution, _norm, first),
        down=nn.Conv2d(first, last, 3, stride=2, padding=1),
        block2=Residual(_convolution, _norm, last),
        norm=_norm(last),
        act=nn.ReLU(),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        head=nn.Linear(last, outputs),
    )
    return nn.Sequential(stages)


def _convolution(channels: int, same: int) -> nn.Module:
    return nn.Conv2d(channels, same, 3, padding=1)


def _norm(channels: int) -> nn.Module:
    return nn.GroupNorm(4, channels)  # no statistics of batches, which depend on their size


class ToImage(nn.Module):
    """(samples, height·width·channels) to (samples, channels, height, width)."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        """Reshape, and put the channels first."""
        return x.reshape(-1, *self.shape).movedim(-1, 1).contiguous()


class Residual(nn.Module):
    """``x + layer2(act2(norm2(layer1(act1(norm1(x))))))``, with the same width throughout."""

    def __init__(
        self,
        layer: Callable[[int, int], nn.Module],
        norm: Callable[[int], nn.Module],
        width: int,
    ) -> None:
        super().__init__()
        self.norm1, self.act1, self.layer1 = norm(width), nn.ReLU(), layer(width, width)
        self.norm2, self.act2, self.layer2 = norm(width), nn.ReLU(), layer(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Same shape as `x`."""
        inner = self.layer1(self.act1(self.norm1(x)))
        result: Tensor = x + self.layer2(self.act2(self.norm2(inner)))
        return result


class Transformer(nn.Module):
    """Two blocks over tokens: the patches of an image, or one token for each feature."""

    def __init__(self, inputs: int, image_shape: ImageShape | None, outputs: int) -> None:
        super().__init__()
        self.tokens: nn.Module
        if image_shape is None:
            self.tokens, count = FeatureTokens(inputs), inputs
        else:
            height, width, channels = image_shape
            side = -(-max(height, width) // PATCHES_A_SIDE)
            self.tokens = nn.Sequential(
                ToImage(image_shape),
                nn.Conv2d(channels, TOKEN_WIDTH, side, stride=side),
                nn.Flatten(2),
                Transposed(),
            )
            count = (height // side) * (width // side)
        self.position = nn.Parameter(0.02 * torch.randn(count, TOKEN_WIDTH))
        self.blocks = nn.Sequential(*(TransformerBlock() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(TOKEN_WIDTH)
        self.head = nn.Linear(TOKEN_WIDTH, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Features (samples, features) to (samples, outputs)."""
        tokens = self.blocks(self.tokens(x) + self.position)
        output: Tensor = self.head(self.norm(tokens.mean(1)))
        return output


class TransformerBlock(nn.Module):
    """Attention, then two linear layers, each added to its normalised input."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(TOKEN_WIDTH), nn.LayerNorm(TOKEN_WIDTH)
        self.attention = nn.MultiheadAttention(TOKEN_WIDTH, HEADS, batch_first=True)
        self.up = nn.Linear(TOKEN_WIDTH, 4 * TOKEN_WIDTH)
        self.act = nn.ReLU()
        self.down = nn.Linear(4 * TOKEN_WIDTH, TOKEN_WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (samples, tokens, width), same shape."""
        normed = self.norm1(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        result: Tensor = x + self.down(self.act(self.up(self.norm2(x))))
        return result


class FeatureTokens(nn.Module):
    """A token for each feature: its value times a vector of its own."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(features, TOKEN_WIDTH) / TOKEN_WIDTH**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """(samples, features) to (samples, features, width)."""
        return x[..., None] * self.direction


class Transposed(nn.Module):
    """Exchange the last two dims."""

    def forward(self, x: Tensor) -> Tensor:
        """(…, a, b) to (…, b, a)."""
        return x.transpose(-1, -2)
