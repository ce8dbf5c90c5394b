"""The feature selector: scikit-learn's checks, known supports, and the path over counts."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.datasets import load_iris, make_classification, make_regression
from sklearn.linear_model import lasso_path
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import sparsact as sa
from sparsact.selection import plot_path, selection_path
from sparsact.selection.hierarchical_prox import hierarchical_prox
from sparsact.selection.linear_path import lasso_order
from sparsact.selection.problem import prepare
from sparsact.selection.selection_path import stability

METHODS = ["lasso", "stg", "lassonet", "group"]
methods = pytest.mark.parametrize("method", METHODS)


@parametrize_with_checks([sa.FeatureSelector("lasso", max_iter=5)])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.parametrize("method", ["stg", "lassonet", "group"])
def test_the_checks_that_fit_and_transform(method):
    from sklearn.utils import estimator_checks as checks

    selector = sa.FeatureSelector(method, max_iter=5)
    for check in (
        checks.check_transformer_general,
        checks.check_estimators_nan_inf,
        checks.check_n_features_in_after_fitting,
        checks.check_fit2d_1feature,
    ):
        check(type(selector).__name__, clone(selector))


@methods
def test_a_known_support_of_a_regression(method):
    x, y, weight = make_regression(200, 20, n_informative=4, noise=5.0, coef=True, random_state=0)
    selector = sa.FeatureSelector(method, n_features=4, random_state=0).fit(x, y)
    assert set(np.flatnonzero(selector.get_support())) == set(np.flatnonzero(weight))
    assert selector.transform(x).shape == (200, 4)
    assert sorted(selector.ranking_) == list(range(1, 21))


@pytest.mark.parametrize("seed", range(2))
def test_gates_of_noise_close_first(seed):
    """A product, lines, and both with squares, among 9 to 19 times as many features of noise."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(400, 20))
    selector = sa.FeatureSelector("stg", 2, random_state=seed).fit(x, x[:, 0] * x[:, 1] > 0)
    assert np.flatnonzero(selector.support_).tolist() == [0, 1]
    x = rng.normal(size=(200, 50))
    y = x[:, :5].sum(1) + 0.5 * rng.normal(size=200)
    selector = sa.FeatureSelector("stg", 5, random_state=seed).fit(x, y)
    assert np.flatnonzero(selector.support_).tolist() == list(range(5))
    x = rng.normal(size=(420, 200))
    score = x[:, 0] - x[:, 1] + x[:, 2] - x[:, 3] + 2 * x[:, 4] * x[:, 5] + 2 * x[:, 6] * x[:, 7]
    score += x[:, 8] ** 2 - x[:, 9] ** 2
    selector = sa.FeatureSelector("stg", 20, random_state=seed).fit(x, score > 0)
    assert selector.support_[:10].sum() >= 5  # by chance 1


@methods
def test_a_known_support_of_classes_given_as_texts(method):
    x, y = make_classification(
        300, 15, n_informative=3, n_redundant=0, class_sep=2.0, shuffle=False, random_state=1
    )
    labels = np.array(["no", "yes"])[y]
    selector = sa.FeatureSelector(method, n_features=3, random_state=0).fit(x, labels)
    assert len(set(np.flatnonzero(selector.support_)) & {0, 1, 2}) >= 2


def test_networks_see_what_lines_cannot():
    """An even function of one feature is invisible to a linear model."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 8))
    y = np.abs(x[:, 5]) + 0.05 * rng.normal(size=400)
    for method in ("lassonet", "group", "stg"):
        selector = sa.FeatureSelector(method, 1, max_iter=200, random_state=0).fit(x, y)
        assert selector.support_[5], method


def test_the_order_is_that_of_the_lasso_path_of_scikit_learn():
    x, y, _ = make_regression(100, 12, n_informative=6, noise=10.0, coef=True, random_state=2)
    scaled = StandardScaler().fit_transform(x)
    _, path, _ = lasso_path(scaled, (y - y.mean()) / y.std(), alphas=np.geomspace(1.0, 1e-3, 300))
    entered = np.array([np.flatnonzero(row)[0] if row.any() else 300 for row in path])
    ranking = sa.FeatureSelector("lasso", max_iter=600).fit(x, y).ranking_
    expected = np.argsort(np.argsort(entered, kind="stable"), kind="stable") + 1
    assert (ranking[expected <= 5] <= 6).all()
    assert np.corrcoef(ranking, expected)[0, 1] > 0.9


def test_the_order_for_several_targets_is_that_of_the_multi_task_lasso():
    x, y = make_regression(100, 12, n_informative=6, n_targets=3, noise=10.0, random_state=2)
    scaled = StandardScaler().fit_transform(x)
    targets = StandardScaler().fit_transform(y)
    _, path, _ = lasso_path(scaled, targets, alphas=np.geomspace(2.0, 1e-3, 300))
    used = (path != 0).any(0)
    entered = np.where(used.any(1), used.argmax(1), 300)
    order = lasso_order(prepare(x, y, "regression", torch.device("cpu")), steps=600).numpy()
    assert (entered[order[:6]] <= np.sort(entered)[6]).all()
    assert spearmanr(entered[order], np.arange(12)).statistic > 0.9


def test_a_feature_that_helps_all_classes_comes_before_one_that_tells_a_single_class():
    y = np.arange(400) % 4
    random = np.random.default_rng(0)
    single = 2.2 * (y == 0) + random.normal(size=400)
    halves = 2.0 * (y >= 2) + random.normal(size=400)
    x = StandardScaler().fit_transform(np.stack([single, halves], 1))
    correlations = np.stack([x[y == label].mean(0) for label in range(4)])
    largest, norms = abs(correlations).max(0), np.linalg.norm(correlations, axis=0)
    assert largest[0] > largest[1]
    assert norms[0] < norms[1]
    assert sa.FeatureSelector("lasso", 1).fit(x, y).support_.tolist() == [False, True]


def test_frames_pipelines_and_seeds():
    x, y = load_iris(return_X_y=True, as_frame=True)
    pipeline = make_pipeline(StandardScaler(), sa.FeatureSelector("lasso", 0.5)).fit(x, y)
    assert pipeline.transform(x).shape == (150, 2)
    selector = sa.FeatureSelector("stg", 2, max_iter=50, random_state=3)
    state = torch.get_rng_state()
    first, second = (clone(selector).fit(x, y).ranking_ for _ in range(2))
    assert (first == second).all()
    assert torch.get_rng_state().equal(state)
    kept = selector.fit(x, y).get_feature_names_out()
    assert set(kept) < set(x.columns)
    with_constant = np.column_stack([x, np.ones(150)])
    assert not sa.FeatureSelector("lasso", 4).fit(with_constant, y).support_[4]


@pytest.mark.parametrize("outputs", [1, 3])
def test_hierarchical_prox_is_a_minimum(outputs):
    """Against a general solver, for each feature alone."""
    torch.manual_seed(outputs)
    amount, bound = 0.4, 1.5
    skip = torch.randn(outputs, 5, dtype=torch.float64)
    first = 2 * torch.randn(4, 5, dtype=torch.float64)
    first[:, 4], skip[:, 4] = 0.01, 0.01  # this feature leaves
    theta, weight = hierarchical_prox(skip, first, amount, bound)
    assert (weight.abs() <= bound * theta.norm(dim=0) + 1e-12).all()
    assert (theta[:, 4] == 0).all()
    assert (weight[:, 4] == 0).all()
    for j in range(5):
        v, u = skip[:, j].numpy(), first[:, j].numpy()

        def cost(point, v=v, u=u):
            # for a given θ the best W is a clip
            clipped = np.clip(u, -bound * np.linalg.norm(point), bound * np.linalg.norm(point))
            distance = ((point - v) ** 2).sum() + ((clipped - u) ** 2).sum()
            return 0.5 * distance + amount * np.linalg.norm(point)

        starts = [v, 3 * v, 0.1 * v]
        best = min(minimize(cost, start, method="Nelder-Mead", tol=1e-10).fun for start in starts)
        ours = theta[:, j].numpy()
        assert cost(ours) <= best + 1e-7
        clipped = np.clip(u, -bound * np.linalg.norm(ours), bound * np.linalg.norm(ours))
        np.testing.assert_allclose(weight[:, j].numpy(), clipped, atol=1e-12)


def test_path_and_picture(tmp_path):
    x, y = load_iris(return_X_y=True, as_frame=True)
    found = selection_path(sa.FeatureSelector("lasso"), x, y, resamples=5)
    assert found.counts.tolist() == [1, 2, 4]
    assert found.score_name == "accuracy"
    assert (found.scores > 0.85).all()
    assert found.frequency.sum(1).tolist() == [1.0, 2.0, 4.0]
    assert np.isnan(found.stability[-1])
    figure = plot_path(found, tmp_path / "path.png")
    assert (tmp_path / "path.png").stat().st_size > 0
    assert figure.axes[1].get_yticklabels()[0].get_text() in x.columns
    gates = sa.FeatureSelector("stg", max_iter=20, random_state=0)
    assert selection_path(gates, x, y, [2], resamples=2).frequency.sum() == 2
    numbers = x.to_numpy()
    assert (
        selection_path(
            sa.FeatureSelector("lasso", task="regression"), numbers[:, 1:], numbers[:, 0], [1]
        ).score_name
        == "R²"
    )


def test_stability_of_known_selections():
    same = np.tile([True, False, True, False], (6, 1))
    assert stability(same) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    random = np.array([rng.permutation(40) < 10 for _ in range(500)])
    assert stability(random) == pytest.approx(0.0, abs=0.02)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "tree"}, "method= must be one of"),
        ({"n_features": 0}, "n_features= must be a number from 1 to 4"),
        ({"n_features": 5}, "n_features= must be a number from 1 to 4"),
        ({"n_features": 1.5}, "n_features= must be"),
        ({"n_features": True}, "n_features= must be"),
        ({"task": "rank"}, "task= must be"),
        ({"max_iter": 0}, "max_iter= must be"),
    ],
)
def test_bad_arguments(options, message):
    x, y = load_iris(return_X_y=True)
    with pytest.raises(ValueError, match=message):
        sa.FeatureSelector(**options).fit(x, y)


def test_bad_targets_and_counts():
    x, y = load_iris(return_X_y=True)
    selector = sa.FeatureSelector()
    with pytest.raises(ValueError, match="has one class only"):
        selector.fit(x, np.zeros(150, dtype=int))
    with pytest.raises(ValueError, match="is constant"):
        sa.FeatureSelector(task="regression").fit(x, np.full(150, 0.5))
    with pytest.raises(ValueError, match="counts= must lie from 1 to 4"):
        selection_path(selector, x, y, [5])
    with pytest.raises(ValueError, match="resamples= must be at least 2"):
        selection_path(selector, x, y, resamples=1)
