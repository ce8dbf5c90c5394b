"""Select features with soft thresholds: which of 30 measurements identify a tumour?

A logistic regression is trained with `optim.Proximal`, which soft-thresholds the weights after
every step. The weights of features that do not help become exactly 0. A stronger penalty keeps
fewer features.

python examples/select_features.py [FOLDER]
"""

import sys
import tempfile
from pathlib import Path

import torch
from matplotlib.figure import Figure
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

import sparsact as sa

folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp(prefix="sparsact-"))
folder.mkdir(parents=True, exist_ok=True)
torch.set_num_threads(1)  # the tensors are small

cancer = load_breast_cancer()
parts = train_test_split(
    cancer.data, cancer.target, test_size=0.3, random_state=0, stratify=cancer.target
)
x, x_test, y, y_test = (torch.tensor(part, dtype=torch.float32) for part in parts)
mean, spread = x.mean(0), x.std(0)
x, x_test = (x - mean) / spread, (x_test - mean) / spread


def select(strength: float) -> tuple[torch.Tensor, float]:
    """The weights at this strength of the penalty, and the accuracy on the test part."""
    model = torch.nn.Linear(x.shape[1], 1)
    torch.nn.init.zeros_(model.weight)
    torch.nn.init.zeros_(model.bias)
    optimizer = sa.optim.Proximal(
        torch.optim.SGD(model.parameters(), lr=0.2), model, {"weight": sa.L1(strength)}
    )
    for _ in range(500):
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x)[:, 0], y)
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        accuracy = ((model(x_test)[:, 0] > 0) == y_test.bool()).float().mean().item()
    return model.weight.detach()[0], accuracy


kept, accuracies = [], []
for strength in (0.0, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3):
    weight, accuracy = select(strength)
    chosen = weight.nonzero()[:, 0].tolist()
    kept.append(len(chosen))
    accuracies.append(accuracy)
    print(f"λ = {strength:<5}  keeps {len(chosen):2}  test accuracy {accuracy:.3f}")
    if 0 < len(chosen) <= 8:
        strongest = sorted(chosen, key=lambda i: -abs(weight[i].item()))
        print("           ", ", ".join(str(cancer.feature_names[i]) for i in strongest))

figure = Figure(figsize=(7, 4), layout="constrained")
axes = figure.add_subplot()
axes.plot(kept, accuracies, "o-", color="#2b6cb0")
axes.set_xlabel("features kept, of 30")
axes.set_ylabel("test accuracy")
axes.set_title("breast cancer: accuracy against the number of features", loc="left")
axes.grid(alpha=0.25)
axes.spines[["top", "right"]].set_visible(False)
figure.savefig(folder / "select_features.png", dpi=120)
print(f"picture: {folder / 'select_features.png'}")
