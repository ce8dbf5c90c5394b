"""The feature selector, an estimator of scikit-learn."""

from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from sparsact._common.devices import usable_device
from sparsact._common.errors import InputError
from sparsact._common.extras import require
from sparsact.selection.gate_order import gate_order
from sparsact.selection.linear_path import lasso_order
from sparsact.selection.network_path import group_order, lassonet_order
from sparsact.selection.problem import Problem, Task, prepare

require("sklearn", "compare")

from sklearn.base import BaseEstimator  # noqa: E402
from sklearn.feature_selection import SelectorMixin  # noqa: E402
from sklearn.utils import check_random_state  # noqa: E402
from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: E402

Method = Literal["lasso", "stg", "lassonet", "group"]


class FeatureSelector(SelectorMixin, BaseEstimator):  # type: ignore[misc]
    """Keeps the features that a sparse model of the target uses.

    - ``"lasso"``: a linear or logistic model whose weights for all classes, or targets, are one
      group for each feature; the features that enter its path first.
    - ``"stg"``: a network with a :class:`sparsact.nn.GaussianGate` on each feature; the gates
      that stay open while :class:`sparsact.TargetDensity` keeps `n_features` of them.
    - ``"lassonet"``: a network whose first layer is bounded by a linear skip; the features that
      resist a growing penalty longest.
    - ``"group"``: a network with a group lasso on the weights of each feature, likewise.

    Features are standardised inside; ``transform`` returns the columns as they are. All data are
    one batch. The networks have 16 units, and find a stationary point that depends on
    `random_state`.

    Args:
        method: the method.
        n_features: how many features to keep: a number, a share in (0, 1), or None for half.
        task: ``"auto"`` takes texts, booleans and whole numbers as classes, and all else as
            numbers to predict; or ``"classification"`` or ``"regression"``.
        max_iter: steps of training: of the dense network, a tenth of them for each strength of
            its penalty, a fifth for each λ of the lasso, twice as many for the gates.
        random_state: seed of the networks and gates. The lasso has no randomness.
        device: where to train. On another device than the CPU, ``fit`` also seeds the generator
            of that device.

    Attributes:
        ranking_: (features,) integers, 1 for the feature that would be kept alone.
        support_: (features,) boolean, the features kept.
        n_features_in_: the number of features seen by ``fit``.
        feature_names_in_: their names, if the data have any.
        n_iter_: `max_iter`.

    Raises:
        ValueError: at ``fit``: an argument is unknown, there are fewer features than `n_features`,
            the data have NaN or infinity, or the target is constant.
        ImportError: scikit-learn is not installed (extra ``compare``).

    Example:
        >>> from sklearn.datasets import load_iris
        >>> x, y = load_iris(return_X_y=True, as_frame=True)
        >>> selector = FeatureSelector("lasso", n_features=2).fit(x, y)
        >>> selector.get_feature_names_out().tolist()
        ['petal length (cm)', 'petal width (cm)']

    Source:
        Tibshirani (1996); Yamada et al., "Feature selection using stochastic gates" (2020);
        Lemhadri et al., "LassoNet" (2021); Scardapane et al., "Group sparse regularization for
        deep neural networks" (2017). The gates are controlled by a multiplier instead of a grid of
        penalties; the networks are trained on all data.
    """

    def __init__(
        self,
        method: Method = "lasso",
        n_features: int | float | None = None,
        *,
        task: Task = "auto",
        max_iter: int = 300,
        random_state: Any = None,
        device: str = "cpu",
    ) -> None:
        self.method = method
        self.n_features = n_features
        self.task = task
        self.max_iter = max_iter
        self.random_state = random_state
        self.device = device

    def fit(self, X: Any, y: Any) -> "FeatureSelector":
        """Rank the features of `X`, (samples, features), by what they tell about `y`."""
        if self.method not in get_args(Method):
            raise InputError(f"method= must be one of {get_args(Method)}, got {self.method!r}")
        if not isinstance(self.max_iter, (int, np.integer)) or self.max_iter < 1:
            raise InputError(f"max_iter= must be an integer of at least 1, got {self.max_iter}")
        X, y = validate_data(
            self, X, y, dtype="numeric", y_numeric=False, multi_output=True, ensure_min_samples=2
        )
        count = kept_features(self.n_features, X.shape[1])
        problem = prepare(X, y, self.task, usable_device(self.device))
        seed = check_random_state(self.random_state).randint(2**31 - 1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            order = self._order(problem, count).cpu().numpy()
        self.ranking_ = np.empty(X.shape[1], dtype=np.int64)
        self.ranking_[order] = np.arange(1, X.shape[1] + 1)
        self.support_ = self.ranking_ <= count
        self.n_iter_ = int(self.max_iter)
        return self

    def _order(self, problem: Problem, count: int) -> Tensor:
        if self.method == "lasso":
            return lasso_order(problem, max(1, self.max_iter // 5))
        if self.method == "stg":
            return gate_order(problem, count, self.max_iter)
        order = lassonet_order if self.method == "lassonet" else group_order
        return order(problem, self.max_iter)

    def _get_support_mask(self) -> Any:
        check_is_fitted(self)
        return self.support_

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def kept_features(n_features: int | float | None, features: int) -> int:
    """The number of features to keep, of `features`.

    Raises:
        InputError: it is neither a number from 1 to `features`, nor a share in (0, 1), nor None.
    """
    if n_features is None:
        return max(1, features // 2)
    if isinstance(n_features, (float, np.floating)) and 0 < n_features < 1:
        return max(1, int(n_features * features + 0.5))
    whole = isinstance(n_features, (int, np.integer)) and not isinstance(n_features, bool)
    if not whole or not 1 <= n_features <= features:
        raise InputError(
            f"n_features= must be a number from 1 to {features}, a share in (0, 1) or None, got "
            f"{n_features!r}"
        )
    return int(n_features)
