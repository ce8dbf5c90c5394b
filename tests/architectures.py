"""Twenty architectures, small: what people put a meter, a penalty or a swap on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Architecture(NamedTuple):
    """A model, an input, and how many call sites of activations it has."""

    build: Callable[[], nn.Module]
    example: Callable[[], Any]
    sites: int


class Bottleneck(nn.Module):
    """As in torchvision: one ReLU module at three places, of two widths."""

    def __init__(self, width: int = 4):
        super().__init__()
        self.conv1 = nn.Conv2d(4 * width, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, 4 * width, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        out += x
        return self.relu(out)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = nn.Sequential(Bottleneck(), Bottleneck())
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer1(self.relu(self.conv1(x))).mean((2, 3)))


class PreActivationNet(nn.Module):
    """Functions, in place and not, in one forward."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        x = x + self.conv2(F.relu(x))
        x = F.relu(x, inplace=True).mean((2, 3))
        return self.fc(x.clamp(min=0)).relu_()


class MobileBlock(nn.Module):
    """Depthwise separable, with a squeeze-and-excitation gate."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Sequential(nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16), nn.Hardswish())
        self.depthwise = nn.Sequential(
            nn.Conv2d(16, 16, 3, padding=1, groups=16), nn.BatchNorm2d(16), nn.ReLU6(inplace=True)
        )
        self.squeeze = nn.Linear(16, 4)
        self.excite = nn.Linear(4, 16)
        self.project = nn.Conv2d(16, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.expand(x))
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(y.mean((2, 3))))))
        return x + self.project(y * gate[:, :, None, None])


class ConvNeXtBlock(nn.Module):
    """Channels last, as in ConvNeXt."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = nn.LayerNorm(8)
        self.up = nn.Linear(8, 32)
        self.act = nn.GELU()
        self.down = nn.Linear(32, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + self.down(self.act(self.up(y))).permute(0, 3, 1, 2)


class ViTBlock(nn.Module):
    """Attention by ``nn.MultiheadAttention``, which has a fast path of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(8)
        self.fc1 = nn.Linear(8, 16)
        self.fc2 = nn.Linear(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 8, batch_first=True)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Cell(nn.Module):
    """A recurrent cell in Python: one site, as many calls as steps."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(12, 6)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        return torch.tanh(self.inner(torch.cat((x, state), -1)))


class Unrolled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = Cell()

    def forward(self, x: Tensor) -> Tensor:
        state = x.new_zeros(x.shape[0], 6)
        for step in range(x.shape[1]):
            state = self.cell(x[:, step], state)
        return state


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.LeakyReLU(0.1))
        self.middle = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.PReLU(8))
        self.up = nn.ConvTranspose2d(8, 8, 2, stride=2)
        self.out = nn.Sequential(nn.Conv2d(16, 3, 3, padding=1), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        y = self.up(self.middle(F.max_pool2d(skip, 2)))
        return self.out(torch.cat((skip, y), 1))


class GraphLayer(nn.Module):
    """Messages along edges, summed at their targets."""

    def __init__(self) -> None:
        super().__init__()
        self.message = nn.Linear(6, 6)
        self.update = nn.Linear(12, 6)

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        sent = torch.relu(self.message(x[edges[0]]))
        received = torch.zeros_like(x).index_add(0, edges[1], sent)
        return F.elu(self.update(torch.cat((x, received), -1)))


class GraphNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([GraphLayer(), GraphLayer()])

    def forward(self, x: Tensor, edges: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x, edges)
        return x


class Gated(nn.Module):
    """A gated MLP of functions, inside a checkpoint in training."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = nn.Linear(6, 12)
        self.up = nn.Linear(6, 12)
        self.down = nn.Linear(12, 6)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.silu(self.gate(x)) * self.up(x))


class Checkpointed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([Gated(), Gated()])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.training else block(x)
        return x


class TiedLayers(nn.Module):
    """One layer that runs three times, as in ALBERT; a model made of a mapping of inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = Gated()
        self.glu = nn.GLU()

    def forward(self, *, x: Tensor) -> dict[str, Tensor]:
        for _ in range(3):
            x = self.layer(x)
        return {"out": self.glu(x)}


def encoder(nested: bool = True) -> nn.Module:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dropout=0.1)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)


class MaskedEncoder(nn.Module):
    """A padded batch: torch turns it into a nested tensor on its fast path."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = encoder()
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor, padding: Tensor) -> Tensor:
        y = self.encoder(x, src_key_padding_mask=padding)
        return F.softplus(self.head(y.masked_fill(padding[..., None], 0.0)))


def _transformers(name: str, **sizes: Any) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        import transformers

        config = getattr(transformers, f"{name}Config")(**sizes)
        return getattr(transformers, f"{name}Model")(config)

    return build


def clip() -> nn.Module:
    import transformers

    text = {
        "vocab_size": 40,
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    vision = {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "image_size": 8,
        "patch_size": 4,
    }
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)
    return transformers.CLIPModel(config)


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8)


def features(width: int) -> Callable[[], Tensor]:
    return lambda: torch.randn(2, 5, width)


def tokens() -> dict[str, Tensor]:
    return {"input_ids": torch.arange(2, 14).reshape(2, 6)}


def padded() -> tuple[Tensor, Tensor]:
    padding = torch.zeros(2, 5, dtype=torch.bool)
    padding[1, 3:] = True
    return torch.randn(2, 5, 8), padding


_BERT = {
    "vocab_size": 40,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
}
_LLAMA = {**_BERT, "num_key_value_heads": 1, "bos_token_id": 0, "eos_token_id": 1}

ARCHITECTURES = {
    "ResNet (bottlenecks)": Architecture(ResNet, images, 7),
    "residual net of functions": Architecture(PreActivationNet, images, 4),
    "VGG": Architecture(
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.ReLU(True),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(72, 5),
            nn.ELU(),
        ),
        images,
        2,
    ),
    "MobileNet": Architecture(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 1), MobileBlock(), MobileBlock()), images, 8
    ),
    "ConvNeXt": Architecture(
        lambda: nn.Sequential(nn.Conv2d(3, 8, 2, 2), ConvNeXtBlock(), ConvNeXtBlock()), images, 2
    ),
    "ViT": Architecture(lambda: nn.Sequential(ViTBlock(), ViTBlock()), features(8), 2),
    "U-Net": Architecture(UNet, images, 3),
    "LSTM": Architecture(Recurrent, features(6), 1),
    "unrolled recurrent cell": Architecture(Unrolled, features(6), 1),
    "graph net with scatter": Architecture(
        GraphNet, lambda: (torch.randn(4, 6), torch.tensor([[0, 1, 2, 3, 0], [1, 2, 3, 0, 2]])), 4
    ),
    "checkpointed gated MLP": Architecture(Checkpointed, features(6), 2),
    "tied layers": Architecture(TiedLayers, lambda: {"x": torch.randn(2, 5, 6)}, 2),
    "nn.TransformerEncoder": Architecture(encoder, features(8), 2),
    "nn.TransformerEncoder, padded": Architecture(MaskedEncoder, padded, 3),
    "BERT": Architecture(_transformers("Bert", **_BERT), tokens, 3),
    "GPT-2": Architecture(
        _transformers(
            "GPT2", n_embd=8, n_layer=2, n_head=2, vocab_size=40, bos_token_id=0, eos_token_id=1
        ),
        tokens,
        2,
    ),
    "Llama": Architecture(_transformers("Llama", **_LLAMA), tokens, 2),
    "T5": Architecture(
        _transformers("T5", d_model=8, d_ff=16, d_kv=4, num_layers=1, num_heads=2, vocab_size=40),
        lambda: {**tokens(), "decoder_input_ids": torch.ones(2, 4, dtype=torch.long)},
        2,
    ),
    "Whisper": Architecture(
        _transformers(
            "Whisper",
            d_model=8,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            num_mel_bins=4,
            max_source_positions=6,
            max_target_positions=6,
            vocab_size=40,
            pad_token_id=0,
            bos_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=2,
        ),
        lambda: {
            "input_features": torch.randn(2, 4, 12),
            "decoder_input_ids": torch.ones(2, 3, dtype=torch.long),
        },
        4,
    ),
    "CLIP": Architecture(clip, lambda: {**tokens(), "pixel_values": torch.randn(2, 3, 8, 8)}, 2),
    "Mixtral": Architecture(
        _transformers("Mixtral", **_LLAMA, num_local_experts=3, num_experts_per_tok=2), tokens, 2
    ),
    "Mamba": Architecture(
        _transformers("Mamba", vocab_size=40, hidden_size=8, state_size=4, num_hidden_layers=2),
        tokens,
        6,
    ),
}


if __name__ == "__main__":  # prints the table
    import sparsact as sa

    print("| architecture | call sites | calls in one forward | functions | modules |")
    print("|---|---|---|---|---|")
    for name, architecture in ARCHITECTURES.items():
        torch.manual_seed(0)
        sites = sa.activations(architecture.build(), architecture.example())
        functions = sum(site.base.endswith("()") for site in sites)
        calls = sum(site.calls for site in sites)
        print(f"| {name} | {len(sites)} | {calls} | {functions} | {len(sites) - functions} |")
