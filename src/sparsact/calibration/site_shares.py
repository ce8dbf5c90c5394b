"""A sparsity for each site, from one number or from shares by patterns of layers' names."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from sparsact._common.errors import InputError
from sparsact.calibration.sites import InputSite


def site_shares(
    sites: Sequence[InputSite], sparsity: float | Mapping[str, float]
) -> dict[str, float]:
    """The sparsity of each site by its name.

    Args:
        sites: all sites.
        sparsity: of all of them, or by globs on the names of layers; the first that matches a
            layer counts. Sites without a glob have 0.

    Raises:
        InputError: a glob decides for no layer, or the layers of a site, which share their zeros,
            have different sparsities.

    Example:
        >>> up = InputSite("mlp.up", ("mlp.up",), 4, 8)
        >>> out = InputSite("attn.out", ("attn.out",), 4, 4)
        >>> site_shares([up, out], {"mlp.*": 0.6})
        {'mlp.up': 0.6, 'attn.out': 0.0}
    """
    if not isinstance(sparsity, Mapping):
        return {site.name: sparsity for site in sites}
    if not sparsity:
        raise InputError("sparsity= names no pattern")
    used: set[str] = set()
    shares: dict[str, float] = {}
    for site in sites:
        globs = [_first_match(reader, sparsity) for reader in site.readers]
        used |= {glob for glob in globs if glob is not None}
        own = {
            reader: 0.0 if glob is None else sparsity[glob]
            for reader, glob in zip(site.readers, globs, strict=True)
        }
        if len(set(own.values())) > 1:
            raise InputError(
                f"sparsity= gives layers that read the same tensor different shares ({own}): a "
                "zero is skipped by all of them"
            )
        shares[site.name] = own[site.name]
    for glob in sparsity:
        if glob not in used:
            raise InputError(f"sparsity= has the pattern {glob!r}, which decides for no layer")
    return shares


def _first_match(name: str, globs: Mapping[str, float]) -> str | None:
    return next((glob for glob in globs if fnmatchcase(name, glob)), None)
