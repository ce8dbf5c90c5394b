"""How many features of a tumour are enough, and are the same ones chosen again?

`FeatureSelector` ranks 30 measurements. For each number of features a logistic model is fitted to
the chosen ones and scored on the part of the data that was left out. This is repeated on random
splits: a choice that changes from split to split says little about the single features, even if
the accuracy is good. Of all 30 features there is nothing to choose, so no stability.

python examples/stable_features.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import torch
from sklearn.datasets import load_breast_cancer

import sparsact as sa
from sparsact.selection import plot_path, selection_path

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
folder.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # the tensors are small

x, y = load_breast_cancer(return_X_y=True, as_frame=True)
path = selection_path(sa.FeatureSelector("lasso"), x, y, resamples=8)
for row, count in enumerate(path.counts):
    print(
        f"{count:2} features: accuracy {path.scores[row].mean():.3f} "
        f"± {path.scores[row].std():.3f}, stability {path.stability[row]:.2f}"
    )
always = [
    name for name, share in zip(path.feature_names, path.frequency[2], strict=True) if share == 1
]
print(f"always among {path.counts[2]}:", ", ".join(always))
plot_path(path, folder / "stable_features.png")
print(f"picture: {folder / 'stable_features.png'}")
