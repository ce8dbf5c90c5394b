"""Makes the directories beside this file with the libraries that the tests read files of.

    .venv-peers/bin/python tests/sae/peers/make.py

Each holds what SAELens, sparsify or dictionary_learning wrote, and ``expected.safetensors``:
inputs, and the latents and reconstructions of that library for them. `make bench-peers` makes the
environment.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from dictionary_learning.dictionary import (
    AutoEncoder,
    AutoEncoderNew,
    GatedAutoEncoder,
    JumpReluAutoEncoder,
)
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE
from dictionary_learning.trainers.matryoshka_batch_top_k import MatryoshkaBatchTopKSAE
from dictionary_learning.trainers.top_k import AutoEncoderTopK
from sae_lens import (
    SAE,
    BatchTopKTrainingSAE,
    BatchTopKTrainingSAEConfig,
    GatedSAE,
    GatedSAEConfig,
    JumpReLUSAE,
    JumpReLUSAEConfig,
    JumpReLUSkipTranscoder,
    JumpReLUSkipTranscoderConfig,
    JumpReLUTrainingSAE,
    JumpReLUTrainingSAEConfig,
    JumpReLUTranscoder,
    JumpReLUTranscoderConfig,
    MatryoshkaBatchTopKTrainingSAE,
    MatryoshkaBatchTopKTrainingSAEConfig,
    SkipTranscoder,
    SkipTranscoderConfig,
    StandardSAE,
    StandardSAEConfig,
    StandardTrainingSAE,
    StandardTrainingSAEConfig,
    TopKSAE,
    TopKSAEConfig,
    TopKTrainingSAE,
    TopKTrainingSAEConfig,
    TrainingSAE,
    Transcoder,
    TranscoderConfig,
)
from sae_lens.training.activation_scaler import ActivationScaler
from safetensors.torch import save_file
from sparsify import SparseCoder, SparseCoderConfig

HERE = Path(__file__).parent
D_IN, D_OUT, D_SAE, K, ROWS = 6, 5, 16, 3, 7


def inputs() -> torch.Tensor:
    return torch.randn(ROWS, D_IN, generator=torch.Generator().manual_seed(0)) + 1


def randomize(sae: torch.nn.Module) -> torch.nn.Module:
    """Give every parameter values of its own, thresholds positive ones but for two."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in sae.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
            if name == "threshold":
                parameter.abs_()[:2].neg_()
    return sae.eval()


def expect(path: Path, sae: Any, factor: float = 1.0) -> None:
    x = inputs()
    with torch.no_grad():
        latents = sae.encode(x * factor)
        rebuilt = sae(x * factor) / factor
    save_file(
        {"x": x, "latents": latents, "rebuilt": rebuilt.contiguous()}, path / "expected.safetensors"
    )


def saelens(name: str, sae: Any, load: Callable[[Path], Any] = SAE.load_from_disk) -> Path:
    path = HERE / f"saelens_{name}"
    randomize(sae).save_model(path)
    expect(path, load(path))
    return path


def saelens_inference() -> None:
    sizes = {"d_in": D_IN, "d_sae": D_SAE}
    other = {**sizes, "d_out": D_OUT, "apply_b_dec_to_input": False}
    saelens("standard", StandardSAE(StandardSAEConfig(**sizes, apply_b_dec_to_input=False)))
    saelens("topk", TopKSAE(TopKSAEConfig(**sizes, k=K)))
    saelens("jumprelu", JumpReLUSAE(JumpReLUSAEConfig(**sizes)))
    saelens("gated", GatedSAE(GatedSAEConfig(**sizes)))
    saelens("transcoder", Transcoder(TranscoderConfig(**other)))
    saelens("jumprelu_transcoder", JumpReLUTranscoder(JumpReLUTranscoderConfig(**other)))
    saelens("skip_transcoder", SkipTranscoder(SkipTranscoderConfig(**other)))
    skip = JumpReLUSkipTranscoder(JumpReLUSkipTranscoderConfig(**other))
    saelens("jumprelu_skip_transcoder", skip)
    for name in ("layer_norm", "constant_norm_rescale"):
        saelens(name, TopKSAE(TopKSAEConfig(**sizes, k=K, normalize_activations=name)))


def saelens_training() -> None:
    sizes = {"d_in": D_IN, "d_sae": D_SAE}
    saelens("standard_training", StandardTrainingSAE(StandardTrainingSAEConfig(**sizes)))
    saelens("topk_training", TopKTrainingSAE(TopKTrainingSAEConfig(**sizes, k=K)))
    saelens("jumprelu_training", JumpReLUTrainingSAE(JumpReLUTrainingSAEConfig(**sizes)))
    batch = BatchTopKTrainingSAE(BatchTopKTrainingSAEConfig(**sizes, k=float(K)))
    batch.topk_threshold.fill_(1.25)
    saelens("batchtopk_training", batch, TrainingSAE.load_from_disk)
    matryoshka = MatryoshkaBatchTopKTrainingSAEConfig(**sizes, k=float(K), matryoshka_widths=[8])
    nested = MatryoshkaBatchTopKTrainingSAE(matryoshka)
    nested.topk_threshold.fill_(1.25)
    saelens("matryoshka_training", nested, TrainingSAE.load_from_disk)
    path = HERE / "saelens_batchtopk_inference"
    batch.save_inference_model(path)
    expect(path, SAE.load_from_disk(path))


def saelens_scaled() -> None:
    """A checkpoint from a training that scales its inputs: the factor lies beside it."""
    config = TopKTrainingSAEConfig(
        d_in=D_IN, d_sae=D_SAE, k=K, normalize_activations="expected_average_only_in"
    )
    path, factor = saelens("scaled", TopKTrainingSAE(config)), 0.4
    ActivationScaler(factor).save(str(path / "activation_scaler.json"))
    expect(path, SAE.load_from_disk(path), factor)


def saelens_before_6() -> None:
    """The settings as versions 3 to 5 named them, which the newest still reads."""
    path = saelens("before_6", TopKSAE(TopKSAEConfig(d_in=D_IN, d_sae=D_SAE, k=K)))
    old = {
        "architecture": "standard",
        "d_in": D_IN,
        "d_sae": D_SAE,
        "dtype": "float32",
        "activation_fn_str": "topk",
        "activation_fn_kwargs": {"k": K},
        "apply_b_dec_to_input": True,
        "finetuning_scaling_factor": False,
        "normalize_activations": "none",
        "hook_name": "blocks.8.hook_resid_pre",
        "sae_lens_training_version": None,
    }
    (path / "cfg.json").write_text(json.dumps(old))
    expect(path, SAE.load_from_disk(path))


def dictionary_learning() -> None:
    """Every class, as its trainer saves it."""
    made = (
        AutoEncoder(D_IN, D_SAE),
        AutoEncoderNew(D_IN, D_SAE),
        GatedAutoEncoder(D_IN, D_SAE),
        JumpReluAutoEncoder(D_IN, D_SAE),
        AutoEncoderTopK(D_IN, D_SAE, K),
        BatchTopKSAE(D_IN, D_SAE, K),
        MatryoshkaBatchTopKSAE(D_IN, D_SAE, K, [4, 12]),
    )
    for sae in made:
        name = type(sae).__name__
        path = HERE / f"dictionary_learning_{name}"
        path.mkdir()
        randomize(sae)
        if hasattr(sae, "k"):
            sae.threshold.fill_(0.8)
        torch.save(sae.state_dict(), path / "ae.pt")
        trainer = {"dict_class": name, "layer": 8, "lm_name": "EleutherAI/pythia-70m-deduped"}
        settings = {"trainer": {**trainer, "submodule_name": "resid_post_layer_8"}, "buffer": {}}
        (path / "config.json").write_text(json.dumps(settings))
        expect(path, type(sae).from_pretrained(path / "ae.pt"))


def sparsify(name: str, config: SparseCoderConfig) -> None:
    path = HERE / f"sparsify_{name}"
    randomize(SparseCoder(D_IN, config)).save_to_disk(path)
    sae, x = SparseCoder.load_from_disk(path), inputs()
    with torch.no_grad():
        found = sae.encode(x)
        latents = torch.zeros(ROWS, D_SAE).scatter(1, found.top_indices, found.top_acts)
        rebuilt = sae(x).sae_out
    save_file({"x": x, "latents": latents, "rebuilt": rebuilt}, path / "expected.safetensors")


def main() -> None:
    for old in HERE.glob("*/"):
        shutil.rmtree(old)
    saelens_inference()
    saelens_training()
    saelens_scaled()
    saelens_before_6()
    sparsify("topk", SparseCoderConfig(num_latents=D_SAE, k=K))
    sparsify("transcoder", SparseCoderConfig(num_latents=D_SAE, k=K, transcode=True))
    skip = SparseCoderConfig(num_latents=D_SAE, k=K, transcode=True, skip_connection=True)
    sparsify("skip_transcoder", skip)
    dictionary_learning()


if __name__ == "__main__":
    main()
