"""Where activations come from: arrays, files, and a layer of a model."""
