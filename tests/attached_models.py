"""Models with an autoencoder in them, made by hand, for the tests of attaching."""

import torch

from sparsact.sae import SAEConfig, SparseAutoencoder

LAYERS = ("model.layers.0", "model.layers.1")

IDS = torch.randint(3, 32, (2, 9), generator=torch.Generator().manual_seed(0))


def autoencoder(kind="topk", width=32, seed=0, **options):
    torch.manual_seed(seed)
    sae = SparseAutoencoder(SAEConfig(width, 64, kind, **{"k": 8, **options}))
    sae.b_dec.data.normal_()
    sae.encoder.bias.data.normal_()
    return sae


def logits(model, **inputs):
    return model(**{"input_ids": IDS, **inputs}).logits


class ByHand:
    """Replaces the output of a layer by a function of it, without the library."""

    def __init__(self, module, function):
        self.handle = module.register_forward_hook(lambda m, args, out: self.new(function, out))

    @staticmethod
    def new(function, out):
        return (function(out[0]), *out[1:]) if isinstance(out, tuple) else function(out)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.handle.remove()


def padded(side):
    """Two texts of 9 and 6 tokens."""
    ids, mask = IDS.clone(), torch.ones_like(IDS)
    part = slice(6, None) if side == "right" else slice(0, 3)
    if side == "left":
        ids[1] = IDS[1].roll(3)
    ids[1, part], mask[1, part] = 0, 0
    return {"input_ids": ids, "attention_mask": mask}
