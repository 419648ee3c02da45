"""The network on a GPU: `fast` is what the engine uses; it puts `graphs` around `step` and `flow`, our own kernels."""
