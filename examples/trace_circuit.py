"""Trace a circuit of three latents: from a predicted token back through two layers.

Autoencoders are trained on two layers of a language model and attached to it, with their errors,
so that the model predicts as before. The gradient of the predicted token's logit picks the latent
of the later layer that drives it most, and the gradient of that latent picks two latents of the
earlier layer. Each is then ablated: the picture compares the effect that the gradient foretold with
the one measured, and shows where in the text the three latents are active. The model is SmolLM2 if
the directory ``SPARSACT_MODELS`` has it, else a small one that learns to copy.

python examples/trace_circuit.py [FOLDER]
"""

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

import sparsact as sa

CIRCUIT_TEXT = "The doctor went to the hospital, because the doctor works at the"


@dataclass(frozen=True)
class Subject:
    """A model, its layers, text for the autoencoders, and the text whose prediction is traced."""

    model: nn.Module
    layers: tuple[str, str]
    tokens: sa.sae.Tokens
    prompt: Tensor
    name: Callable[[int], str]
    d_sae: int


def smollm2(folder: Path) -> Subject:
    model, tokenizer = sa.text.load_language_model(str(folder / "smollm2"))
    text = folder / "text" / "calibrate.txt"
    tokens = sa.text.read_tokens(tokenizer, [text], 128, max_tokens=6000)
    prompt = torch.tensor([[tokenizer.bos_token_id, *tokenizer(CIRCUIT_TEXT)["input_ids"]]])
    layers = "model.layers.8", "model.layers.15"
    return Subject(model, layers, tokens, prompt, lambda id: tokenizer.decode([id]), 1024)


def copying_model() -> Subject:
    """A model of two layers that has learned to repeat the second half of each row."""
    config = LlamaConfig(
        vocab_size=16,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=32,
    )
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(400):
        rows = copied_rows(32)
        logits = model(input_ids=rows).logits[:, 5:-1]
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 6:].flatten())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    rows = copied_rows(400)
    tokens = sa.sae.Tokens(rows, torch.ones_like(rows, dtype=torch.bool))
    layers = "model.layers.0", "model.layers.2"
    return Subject(
        model.eval(), layers, tokens, copied_rows(1)[:, :-1], "abcdefghijklmnop".__getitem__, 192
    )


def copied_rows(count: int) -> Tensor:
    half = torch.randint(16, (count, 6))
    return torch.cat([half, half], 1)


def train(subject: Subject) -> dict[str, sa.SparseAutoencoder]:
    """Train an autoencoder for each layer, on activations that are not stored."""
    saes = {}
    for layer in subject.layers:
        rows = sa.sae.stream_layers(subject.model, layer, subject.tokens)[layer]
        sae = sa.SparseAutoencoder(sa.SAEConfig(rows.width, subject.d_sae, "topk", k=16))
        trainer = sa.SAETrainer(sae, sa.SAETrainConfig(lr=2e-3))
        stats = trainer.fit(rows.batches(256), steps=150)
        print(f"{layer}: {stats.l0:.0f} active latents leave {100 * stats.fvu:.0f}% unexplained")
        saes[layer] = sae
    return saes


@dataclass(frozen=True)
class Node:
    """A latent of a circuit, its activations in the text, and its effect on the next node."""

    layer: str
    index: int
    activations: Tensor
    foretold: float
    measured: float


def trace(subject: Subject, saes: dict[str, sa.SparseAutoencoder]) -> tuple[str, list[Node]]:
    model, prompt = subject.model, subject.prompt
    early, late = subject.layers
    skip = subject.tokens.skip  # the first token is unlike all others
    with sa.sae.attach(model, saes, skip=skip) as sites:
        logits = model(input_ids=prompt).logits[0, -1]
    token = int(logits.argmax())
    first, last = sites[early].latents, sites[late].latents
    (to_logit,) = torch.autograd.grad(logits[token], last, retain_graph=True)
    effects = (last * to_logit)[0, -1].detach()
    driver = int(effects.argmax())
    total = last[0, -1, driver]
    (to_driver,) = torch.autograd.grad(total, first)
    sources = (first * to_driver)[0].sum(0).detach()

    def without(layer: str, latent: int) -> tuple[float, float]:
        """The logit and the driver's activation without a latent."""
        with torch.no_grad(), sa.sae.attach(model, saes, skip=skip) as ablated:
            ablated[layer].ablate([latent])
            logit = model(input_ids=prompt).logits[0, -1, token]
        return float(logit), float(ablated[late].latents[0, -1, driver])

    nodes = []
    for index in sources.abs().topk(2).indices.tolist():
        measured = float(total.detach()) - without(early, index)[1]
        nodes.append(
            Node(early, index, first[0, :, index].detach(), float(sources[index]), measured)
        )
    measured = float(logits[token].detach()) - without(late, driver)[0]
    nodes.append(Node(late, driver, last[0, :, driver].detach(), float(effects[driver]), measured))
    return subject.name(token), nodes


def draw(subject: Subject, token: str, nodes: list[Node], file: Path) -> None:
    figure = Figure(figsize=(10, 3.4), layout="tight")
    left, right = figure.subplots(1, 2, width_ratios=(2.2, 1))
    activity = torch.stack([node.activations / node.activations.abs().max() for node in nodes])
    left.imshow(activity, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    words = [subject.name(id) for id in subject.prompt[0].tolist()]
    left.set_xticks(range(len(words)), words, rotation=60, ha="right", fontsize=8)
    names = [f"{node.layer.removeprefix('model.')}, {node.index}" for node in nodes]
    left.set_yticks(range(3), names, fontsize=8)
    left.set_title(f"where the latents are active; the prediction is {token!r}", fontsize=9)
    places = torch.arange(3)
    largest = [max(abs(node.foretold), abs(node.measured), 1e-9) for node in nodes]
    foretold = [node.foretold / size for node, size in zip(nodes, largest, strict=True)]
    measured = [node.measured / size for node, size in zip(nodes, largest, strict=True)]
    right.barh(places - 0.2, foretold, 0.38, label="by gradient")
    right.barh(places + 0.2, measured, 0.38, label="by ablation")
    right.set_yticks(range(3), names, fontsize=8)
    right.invert_yaxis()
    right.set_title("effect on the next node, relative", fontsize=9)
    right.legend(fontsize=8)
    figure.savefig(file, dpi=110)


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    models = Path(os.environ.get("SPARSACT_MODELS") or "models")
    subject = smollm2(models) if (models / "smollm2").is_dir() else copying_model()
    token, nodes = trace(subject, train(subject))
    for node, target in zip(nodes, ("driver", "driver", f"logit of {token!r}"), strict=True):
        print(
            f"{node.layer}, latent {node.index}: {node.foretold:+.2f} on the {target} by gradient, "
            f"{node.measured:+.2f} by ablation"
        )
    file = folder / "trace_circuit.png"
    draw(subject, token, nodes, file)
    print(f"picture: {file}")


if __name__ == "__main__":
    main()
