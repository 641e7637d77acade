"""The worker extension and random weights together: vLLM takes one `worker_extension_cls` alone."""

from .. import random_weights
from . import extension


class Extension(extension.Extension, random_weights.Extension):
    """Both are in place once imported."""
