"""Selection of features: estimators for scikit-learn, paths over the number of features."""

from sparsact.selection.feature_selector import FeatureSelector, Method
from sparsact.selection.plot_path import plot_path
from sparsact.selection.selection_path import SelectionPath, selection_path

__all__ = ["FeatureSelector", "Method", "SelectionPath", "plot_path", "selection_path"]
