"""Attaching autoencoders to the modules of a model."""

from collections.abc import Iterator, Mapping
from typing import Literal

from torch import Tensor, nn

from sparsact._common.errors import InputError, unknown
from sparsact.hooks import Removable, Taps, check_hookable
from sparsact.sae.attaching.attached_site import AttachedSite, Mode
from sparsact.sae.attaching.token_mask import TokenMask
from sparsact.sae.data.places import Place, one_place
from sparsact.sae.sae_model import SparseAutoencoder
from sparsact.sae.trained_on import TrainedOn

MODES = ("replace", "error", "read")
RECORDS = ("last", "all")


class AttachedSites(Removable, Mapping[str, AttachedSite]):
    """The autoencoders that are attached to a model: name of a module → its site.

    They are detached at the end of the ``with`` block, or by :meth:`remove`. What they recorded
    stays.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: Mapping[str, AttachedSite],
        places: Mapping[str, Place],
    ) -> None:
        self._sites = dict(sites)
        self._modes = {one.sae: one.sae.training for one in sites.values()}
        for sae in self._modes:
            sae.eval()
        self._tokens = TokenMask(model)
        self._taps = [self._tap(name, place) for name, place in places.items()]

    def _tap(self, name: str, place: Place) -> Taps:
        modules = {name: place.module}
        if self._sites[name].sae.config.is_transcoder:
            return Taps.on_calls(modules, self._pass)
        return Taps(modules, lambda name, x: self._pass(name, x, x), on=place.site)

    def __getitem__(self, name: str) -> AttachedSite:
        if name not in self._sites:
            raise unknown("site", name, self._sites)
        return self._sites[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._sites)

    def __len__(self) -> int:
        return len(self._sites)

    def remove(self) -> None:
        """Detach all autoencoders, and give each its mode back."""
        for taps in self._taps:
            taps.remove()
        self._tokens.remove()
        for sae, mode in self._modes.items():
            sae.train(mode)

    def _pass(self, name: str, x: Tensor, target: Tensor) -> Tensor | None:
        site = self._sites[name]
        return site.pass_through(x, target, self._tokens.counts(target, site.skip))


def attach(
    model: nn.Module,
    saes: Mapping[str, SparseAutoencoder],
    mode: Mode = "error",
    *,
    site: Literal["input", "output"] = "output",
    skip: int | None = None,
    record: Literal["last", "all"] = "last",
    check: bool = True,
) -> AttachedSites:
    """Attach autoencoders to modules of a model, in a ``with`` block.

    Positions that do not count keep their own activation: padding, and leading tokens on which
    the autoencoder was not trained. ``generate`` works, with caches and padding on any side.

    Args:
        model: any model. A language model gets its mask as ``attention_mask=``.
        saes: name of a module → the autoencoder of its activations (…, d_in). A transcoder reads
            the input of the module and replaces its output. Hooks of TransformerLens are
            understood, such as ``blocks.3.hook_resid_post``.
        mode: ``"replace"``: the reconstruction takes the place of the activation. ``"error"``:
            the error of the reconstruction is added to it, so that the model's output changes by
            edits of latents only. ``"read"``: nothing is replaced.
        site: whether the output of the modules is encoded, or their input.
        skip: leading tokens of each text that do not count. None: as each autoencoder was
            trained, 0 if that is unknown.
        record: ``"last"``: a site keeps the latents of the last forward, with their graph.
            ``"all"``: those of all forwards, such as those of ``generate``.
        check: whether to refuse a model or layer on which an autoencoder was not trained.

    Returns:
        the sites. ``sites[name].latents`` are the latents of the last forward; a site's methods
        edit those of the next ones.

    Gradient:
        exact. In the mode ``"error"`` without edits, the gradient of the model is its own, and
        that of each latent is the effect of adding to it.

    Raises:
        InputError: a ValueError: no module of that name, or several; another mode; a model or
            layer on which an autoencoder was not trained, with `check`. In a forward: an
            activation of another width or on another device.
        RuntimeError: the model is compiled already, or in ``nn.DataParallel``.

    Example:
        >>> import torch
        >>> from sparsact.sae import SAEConfig
        >>> model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
        >>> sae = SparseAutoencoder(SAEConfig(d_in=4, d_sae=16, k=2))
        >>> x = torch.randn(5, 3)
        >>> with attach(model, {"1": sae}) as sites:
        ...     unchanged = torch.equal(model(x), model(x))
        ...     active = sites["1"].latents.count_nonzero(-1)
        ...     ablated = sites["1"].ablate([0, 1, 2]) and model(x)
        >>> unchanged, bool((active <= 2).all()), ablated.shape
        (True, True, torch.Size([5, 2]))

    Source:
        Marks et al., "Sparse Feature Circuits" (2024), for the error term.
    """
    if mode not in MODES:
        raise unknown("mode", mode, MODES)
    if site not in ("input", "output"):
        raise unknown("site", site, ("input", "output"))
    if record not in RECORDS:
        raise unknown("record", record, RECORDS)
    if skip is not None and skip < 0:
        raise InputError(f"skip= must be at least 0, got {skip}")
    if not saes:
        raise InputError("saes= is empty: give the name of a module and its autoencoder")
    check_hookable(model)
    sites: dict[str, AttachedSite] = {}
    places: dict[str, Place] = {}
    for pattern, sae in saes.items():
        place = one_place(model, pattern, site)
        if place.name in sites:
            raise InputError(
                f"{place.name!r} has two autoencoders: attach them one after the other"
            )
        own_skip = check_autoencoder(model, place, sae, check)
        sites[place.name] = AttachedSite(
            place.name, sae, mode, own_skip if skip is None else skip, record
        )
        places[place.name] = place
    return AttachedSites(model, sites, places)


def check_autoencoder(model: nn.Module, place: Place, sae: SparseAutoencoder, check: bool) -> int:
    """Check an autoencoder for a place, and return the leading tokens it was trained without.

    Raises:
        InputError: it is none, or was not trained on that module, with `check`.
    """
    if not isinstance(sae, SparseAutoencoder):
        raise InputError(
            f"{place.name!r} needs a SparseAutoencoder, got {type(sae).__name__}; "
            "sparsact.sae.load reads those of other libraries"
        )
    if sae.trained_on is None:
        return 0
    if check:
        sae.trained_on.check(TrainedOn.of(model, place.name, place.site))
    return sae.trained_on.skip
