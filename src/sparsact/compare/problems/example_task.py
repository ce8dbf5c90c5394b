"""What to compare: your network, your data, your loss and score.

Run it with  sparsact compare task.py --epochs 10 --lr 0.005
"""

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

digits = load_digits()
images = torch.tensor(digits.images, dtype=torch.float32).unsqueeze(1) / 16
labels = torch.tensor(digits.target)


def build() -> nn.Module:
    """A new network. Its activations are found and exchanged, also functions such as F.relu."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 2 * 2, 10),
    )


# A tuple of arrays, a Dataset, a DataLoader, or a list of batches.
train = DataLoader(TensorDataset(images[:900], labels[:900]), batch_size=100, shuffle=True)
validation = images[900:1350], labels[900:1350]
test = images[1350:], labels[1350:]

# The rest is optional. Take the # away to set it yourself.
#
# select = ["2"]                                  # only these activations
#
# def loss(output, target):                       # default: by the target
#     return nn.functional.cross_entropy(output, target, label_smoothing=0.1)
#
# def score(predictions, targets):                # higher is better; or a name, such as "f1"
#     return (predictions.argmax(1) == targets).float().mean()
#
# def optimizer(parameters):                      # default: Adam, with --lr
#     return torch.optim.AdamW(parameters, lr=2e-3)
