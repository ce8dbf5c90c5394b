"""What to compare: your network, your data, your loss and score.

Run it with  sparsact compare task.py --epochs 10
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
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, padding=1, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(16 * 4 * 4, 10),
    )


# A tuple of arrays, a Dataset, a DataLoader, or a list of batches.
train = DataLoader(TensorDataset(images[:1000], labels[:1000]), batch_size=64, shuffle=True)
validation = images[1000:1400], labels[1000:1400]
test = images[1400:], labels[1400:]

# The rest is optional. Take the # away to set it yourself.
#
# select = ["1"]                                  # only these activations
#
# def loss(output, target):                       # default: by the target
#     return nn.functional.cross_entropy(output, target, label_smoothing=0.1)
#
# def score(predictions, targets):                # higher is better; or a name, such as "f1"
#     return (predictions.argmax(1) == targets).float().mean()
#
# def optimizer(parameters):                      # default: Adam, with --lr
#     return torch.optim.AdamW(parameters, lr=2e-3)
