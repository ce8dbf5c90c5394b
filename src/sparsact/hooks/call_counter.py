"""Numbers of the calls of a module, or of a function, within one forward of what encloses them."""

from collections.abc import Iterable

from torch import nn

from sparsact.hooks.call_kinds import named_hookable_modules
from sparsact.hooks.per_thread import PerThread


class _Counts(PerThread):
    """For each site: the calls so far, and the forwards around it that are running."""

    def __init__(self) -> None:
        self.calls: dict[str, int] = {}
        self.running: dict[str, int] = {}


class CallCounter:
    """Numbers the calls of each site, from 1, within a forward of the modules that enclose it.

    The numbers start again with each forward of an enclosing module. So the activation of a layer
    that runs twelve times is one site if the layer calls it once.
    """

    def __init__(self) -> None:
        self._counts = _Counts()

    def number(self, site: str) -> int:
        """Count a call and return its number; a call outside all enclosing modules is number 1."""
        if not self.is_inside(site):
            return 1
        calls = self._counts.calls
        calls[site] += 1
        return calls[site]

    def is_inside(self, site: str) -> bool:
        """Whether a module that encloses `site` is running."""
        return self._counts.running.get(site, 0) > 0

    def start(self, sites: Iterable[str]) -> None:
        """Begin a forward that encloses `sites`."""
        counts = self._counts
        calls, running = counts.calls, counts.running
        for site in sites:
            calls[site] = 0
            running[site] = running.get(site, 0) + 1

    def end(self, sites: Iterable[str]) -> None:
        """End a forward that encloses `sites`."""
        running = self._counts.running
        for site in sites:
            running[site] = max(running.get(site, 0) - 1, 0)  # after a failed hook, no start ran


class Scope:
    """The hooks of a module that encloses `sites`; they are copied together with the module."""

    def __init__(self, counter: CallCounter, sites: list[str]) -> None:
        self.counter = counter
        self.sites = sites

    def start(self, *_: object) -> None:
        """Before the forward of the module."""
        self.counter.start(self.sites)

    def end(self, *_: object) -> None:
        """After the forward of the module."""
        self.counter.end(self.sites)


class SitePaths:
    """All dotted names of the sites of a model, whose modules may have several names."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = dict(model.named_modules(remove_duplicate=False))
        self._aliases: dict[int, list[str]] = {}
        for name, module in self._modules.items():
            self._aliases.setdefault(id(module), []).append(name)

    def of(self, site: str) -> list[str]:
        """The names of a site: of a module, or of a function in a module's forward."""
        if not site.endswith("()"):
            return self._aliases[id(self._modules[site])]
        owner, _, function = site.rpartition(".")
        owners = self._aliases[id(self._modules[owner])]
        return [f"{name}.{function}" if name else function for name in owners]

    def is_inside(self, site: str, module: nn.Module) -> bool:
        """Whether `module` encloses the site under one of the names of both."""
        prefixes = tuple(f"{name}." if name else "" for name in self._aliases[id(module)])
        return any(path.startswith(prefixes) for path in self.of(site) if path)


def enclosing_modules(model: nn.Module, sites: Iterable[str]) -> list[tuple[nn.Module, list[str]]]:
    """Return each module that encloses some of the sites, with these sites."""
    paths, sites = SitePaths(model), tuple(sites)
    enclosing = (
        (module, [site for site in sites if paths.is_inside(site, module)])
        for _, module in named_hookable_modules(model)
    )
    return [(module, inside) for module, inside in enclosing if inside]
