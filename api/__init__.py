"""The HTTP API of a yard: routes, schemas, authentication, predictions. Only its serving threads import torch."""
