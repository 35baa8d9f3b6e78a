"""AlexNet: the network, its recipes, data, training, checkpoints, evaluation and inference. PyTorch only.

Importing this package, its config, errors, recipes, packs or image decoding does not import torch.
"""
