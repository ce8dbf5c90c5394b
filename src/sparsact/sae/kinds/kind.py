"""The base class of the kinds of autoencoder, and what they share."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor, nn

from sparsact.kernels import Entries
from sparsact.sae.kinds.sparsity_term import SparsityTerm

Module = TypeVar("Module", bound=nn.Module)


class KindOptions(Protocol):
    """The fields of `SAEConfig` that a kind reads to make its threshold module."""

    @property
    def d_sae(self) -> int:
        """Number of latents."""

    @property
    def k(self) -> int:
        """Latents kept per input."""

    @property
    def bandwidth(self) -> float:
        """Width of the window through which thresholds learn."""


class ForeignTensors(Protocol):
    """The tensors of a file that another library wrote; each is taken once."""

    def __contains__(self, name: str) -> bool: ...

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor of that name and shape."""


class SparseEncoding(NamedTuple):
    """What the sparse encoder of a kind found in a batch.

    Attributes:
        active: the latents that can be non-zero: entries, or values and indices, both (batch, k).
        pre: pre-activations: a matrix (batch, d_sae), or the entries that pass the threshold or
            that it learns from. None if they were never stored.
        latents: the latents, in the form of `pre`.
    """

    active: Entries | tuple[Tensor, Tensor]
    pre: Tensor | Entries | None
    latents: Tensor | Entries | None


class Kind(ABC, Generic[Module]):
    """What one kind of autoencoder does differently from the others.

    An instance is bound to the threshold module of one autoencoder. To add a kind, write a
    subclass in a file of its own, list it in ``KINDS`` of ``sparsact.sae.kinds``, and add a row
    to the table of kinds in the tests. Names, choices, help texts, training and file formats
    follow from the class. Set the attributes and implement the abstract methods. The other
    methods describe an ordinary threshold without a sparse encoder; override those that differ.

    Methods whose name ends in an underscore change tensors in place and run without gradients.
    Shapes below use d_sae for the number of latents. Pre-activations are what the encoder
    returns, and what the threshold module gets.

    Args:
        activation: the threshold module, an instance of :attr:`module_type`.

    Attributes:
        name: the value of ``SAEConfig.activation``.
        summary: what is active, for help texts.
        module_type: class of the threshold module. A module of this class that is passed to a
            ``"custom"`` autoencoder is treated as this kind, too.
        selects: whether the kind keeps ``SAEConfig.k`` latents instead of having a penalty.
        keeps_k_per_input: whether no input has more than ``SAEConfig.k`` active latents. Then
            the trainer need not measure whether the sparse encoder is worth it.
        penalizes_custom: whether :meth:`penalty` also applies to a ``"custom"`` autoencoder.
        saelens_reads: architectures of SAELens that are loaded as this kind.
        saelens_writes: architecture of SAELens that this kind is saved as; None if there is none.
        saelens_writes_transcoder: the same for a transcoder.
        saelens_bias: name of the encoder's bias in the files of SAELens.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    module_type: ClassVar[type[nn.Module]]
    selects: ClassVar[bool] = False
    keeps_k_per_input: ClassVar[bool] = False
    penalizes_custom: ClassVar[bool] = False
    saelens_reads: ClassVar[tuple[str, ...]] = ()
    saelens_writes: ClassVar[str | None] = None
    saelens_writes_transcoder: ClassVar[str | None] = None
    saelens_bias: ClassVar[str] = "b_enc"

    def __init__(self, activation: Module) -> None:
        self.activation = activation

    @classmethod
    @abstractmethod
    def make_module(cls, options: KindOptions) -> nn.Module:
        """A new threshold module that maps (…, d_sae) to the same shape."""

    # The loss

    def penalty(self) -> SparsityTerm | None:
        """The penalty that makes latents sparse, with coefficient 1. None if there is none."""
        return None

    def extra_loss(
        self, pre: Tensor | Entries, target: Tensor, dictionary: Tensor, bias: Tensor
    ) -> Tensor | float:
        """A term of the loss besides reconstruction and penalty: a scalar.

        Args:
            pre: pre-activations, as :class:`SparseEncoding` describes them.
            target: (batch, d_out), in the scale of training.
            dictionary: (d_sae, d_out), the decoder, detached.
            bias: (d_out,) of the decoder, detached.
        """
        return 0.0

    # The sparse encoder

    def has_sparse_encoder(self) -> bool:
        """Whether :meth:`encode_sparse` gives the values and gradients of the dense encoder."""
        return False

    def sparse_encoder_supports(self, term: SparsityTerm | None) -> bool:
        """Whether the penalty can be computed from what :meth:`encode_sparse` returns."""
        return term is None or term.counts_entries

    def encode_sparse(
        self, encoder: nn.Linear, centered: Tensor, select_dtype: torch.dtype | None
    ) -> SparseEncoding:
        """Encode (batch, d_in) with the kernels that skip inactive latents.

        Args:
            encoder: from d_in to d_sae.
            centered: inputs as the encoder reads them.
            select_dtype: dtype in which a selection may search; None for that of the weights.
        """
        raise NotImplementedError(f"the kind {self.name!r} has no sparse encoder")

    # The number of active latents

    @abstractmethod
    def can_set_l0(self) -> bool:
        """Whether :meth:`set_l0_` works for this module: its thresholds are known and can move."""

    @abstractmethod
    def set_l0_(self, pre: Tensor, target: float, bias: Tensor) -> None:
        """Shift all thresholds by one amount so that `target` latents per input are active.

        Args:
            pre: (n, d_sae), pre-activations of held-out inputs.
            target: mean number of active latents, at most d_sae.
            bias: (d_sae,) of the encoder. Lowering it also makes latents inactive.
        """

    # Dead latents and several processes

    def selection_level(self, pre: Tensor) -> Tensor:
        """(n,): what an entry of each row must exceed to be selected.

        Zero for kinds in which latents do not compete.

        Args:
            pre: (n, d_sae), pre-activations.
        """
        return pre.new_zeros(len(pre))

    def let_pass_(self, latents: Tensor, pre: Tensor) -> None:
        """Lower the thresholds of revived latents below their new pre-activations.

        Kinds without a threshold per latent have nothing to do.

        Args:
            latents: (count,), their indices.
            pre: (count,), the pre-activation of each on the input it was revived for.
        """
        return

    def join_processes_(self, joined: bool) -> None:
        """Let the rows of all processes compete if `joined`. Only selection in a batch needs it."""
        return

    # The scale

    @abstractmethod
    def rescale_(self, factor: Tensor) -> bool:
        """Change the thresholds so that inputs times `factor` are treated as the inputs were.

        Args:
            factor: positive; a scalar, or (d_sae,) with one factor per latent.

        Returns:
            whether this is possible. If not, nothing is changed: the thresholds are unknown or
            fixed, or latents with different factors compete.
        """

    # Other libraries

    def is_in_saelens(self) -> bool:
        """Whether SAELens can do what this module does, if it has the architecture."""
        return True

    def saelens_tensors(self, bias: Tensor) -> dict[str, Tensor]:
        """The tensors of the SAELens file besides ``W_enc``, ``W_dec`` and ``b_dec``.

        Args:
            bias: (d_sae,) of the encoder, float32.
        """
        return {self.saelens_bias: bias}

    def saelens_settings(self) -> dict[str, Any]:
        """The settings of this kind in ``cfg.json``."""
        return {}

    def load_saelens_(self, tensors: ForeignTensors, bias: Tensor) -> None:
        """Read what :meth:`saelens_tensors` wrote, besides the bias.

        Args:
            tensors: those of the file.
            bias: (d_sae,), the one named :attr:`saelens_bias`.
        """
        return


def level_for(scores: Tensor, target: float) -> Tensor:
    """The level that `target` entries of each row exceed on average: a scalar."""
    entries = scores.flatten().float()
    count = min(max(round(target * len(scores)), 1), entries.numel() - 1)
    return entries.kthvalue(entries.numel() - count).values.to(scores.dtype)
