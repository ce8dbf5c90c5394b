"""Places in a model whose activations are read: modules, and the hooks of TransformerLens."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase

from torch import nn

from sparsact._common.errors import InputError, unknown
from sparsact.hooks import Site, select_modules

MOST_NAMES = 5
"""Modules that an error names."""

HOOK = re.compile(r"blocks\.([^.]+)\.(.+)")
"""A hook of TransformerLens in one block, or in those that match a pattern."""

MLPS = ("mlp", "feed_forward", "fc2")
ATTENTIONS = ("self_attn", "attn", "attention", "self_attention")
DOWN = ("mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "mlp.fc2", "fc2")
OUT = tuple(f"{name}.{last}" for name in ATTENTIONS for last in ("o_proj", "out_proj", "c_proj"))
OUT += tuple(f"{name}.dense" for name in ATTENTIONS)

HOOKS: dict[str, tuple[tuple[str, ...], Site]] = {
    "hook_resid_pre": (("",), "input"),
    "hook_resid_post": (("",), "output"),
    "hook_mlp_out": (("post_feedforward_layernorm", *MLPS), "output"),
    "hook_attn_out": (ATTENTIONS, "output"),
    "attn.hook_z": (OUT, "input"),
    "mlp.hook_post": (DOWN, "input"),
}
"""Hook of a block → names that its module has in models, and the site there."""


@dataclass(frozen=True)
class Place:
    """A place in a model.

    Attributes:
        name: of the module.
        module: the module.
        site: whether its output is read, or its input.
    """

    name: str
    module: nn.Module
    site: Site = "output"


def find_places(model: nn.Module, layer: str, site: Site = "output") -> dict[str, Place]:
    """The places of that name, or all that match a pattern: name of the module → place.

    Args:
        model: any model.
        layer: name of a module, or a pattern (``model.layers.*.mlp``); or the name of a hook in
            TransformerLens, such as ``blocks.15.hook_resid_post``, ``hook_mlp_out``,
            ``hook_attn_out``, ``attn.hook_z`` (all heads side by side), ``mlp.hook_post`` or
            ``hook_embed``, whose site is part of the name.
        site: ``"output"`` or ``"input"`` of the modules.

    Raises:
        InputError: a ValueError: no module matches; another site; the model has no such hook.

    Example:
        >>> model = nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])})
        >>> list(find_places(model, "blocks.1.hook_resid_post"))
        ['layers.1']
    """
    if site not in ("output", "input"):
        raise unknown("site", site, ("output", "input"))
    hook = HOOK.fullmatch(layer)
    if hook is not None and hook[2] in HOOKS:
        return _hooks(model, hook[1], hook[2])
    if layer == "hook_embed":
        return {name: Place(name, module) for name, module in _embedding(model).items()}
    return {
        name: Place(name, module, site) for name, module in select_modules(model, layer).items()
    }


def one_place(model: nn.Module, layer: str, site: Site = "output") -> Place:
    """The place of that name, or the only one that matches the pattern.

    Raises:
        InputError: a ValueError: there is none, or several.
    """
    found = find_places(model, layer, site)
    if len(found) != 1:
        named = ", ".join(list(found)[:MOST_NAMES])
        named += ", …" if len(found) > MOST_NAMES else ""
        raise InputError(f"{layer!r} matches {len(found)} modules: {named}; name one")
    return next(iter(found.values()))


def _hooks(model: nn.Module, number: str, hook: str) -> dict[str, Place]:
    """The places of a hook in the blocks of that number."""
    prefix, blocks = _blocks(model, hook)
    places = {}
    for at, block in enumerate(blocks):
        if not fnmatchcase(str(at), number):
            continue
        name = f"{prefix}.{at}".removeprefix(".")
        if hook == "hook_resid_pre" and at:  # the same tensor, under one name
            place = Place(f"{prefix}.{at - 1}".removeprefix("."), blocks[at - 1])
        else:
            inner, site = _inside(block, hook)
            place = Place(f"{name}.{inner}".rstrip("."), block.get_submodule(inner), site)
        places[place.name] = place
    if not places:
        raise InputError(f"there is no block {number}: {prefix!r} has {len(blocks)}")
    return places


def _blocks(model: nn.Module, hook: str) -> tuple[str, nn.ModuleList]:
    """The longest list of modules, which holds the blocks of a transformer."""
    lists = {n: m for n, m in model.named_modules() if isinstance(m, nn.ModuleList)}
    if not lists:
        raise InputError(f"{hook!r} needs a model with a list of blocks: name the module instead")
    prefix = max(lists, key=lambda name: len(lists[name]))
    return prefix, lists[prefix]


def _inside(block: nn.Module, hook: str) -> tuple[str, Site]:
    """Where a block has a hook."""
    names, site = HOOKS[hook]
    if hook == "hook_attn_out" and hasattr(block, "pre_feedforward_layernorm"):
        names = ("post_attention_layernorm", *names)  # Gemma normalises what is added
    known = {name for name, _ in block.named_modules()}
    for name in names:
        if name in known:
            return name, site
    raise InputError(f"{hook!r} is not known in {type(block).__name__}: name the module instead")


def _embedding(model: nn.Module) -> dict[str, nn.Module]:
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    if embedding is None:
        raise InputError("'hook_embed' needs get_input_embeddings: name the module instead")
    return select_modules(model, embedding)
