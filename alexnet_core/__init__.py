"""AlexNet: networks, recipes, data, training, checkpoints, evaluation and prediction. No web, queue or database.

Importing this package or its modules `config`, `errors`, `geometry`, `recipes`, `pack`, `images` or `builtin` does not
load torch.
"""

__version__ = "0.1.0"
