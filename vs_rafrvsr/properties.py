"""Names of the frame properties that Upscale writes, for who writes them and who reads them."""

RESET = "_RafrvsrReset"
"""1 on an output frame with which the recurrence began anew."""

FALLBACK = "_RafrvsrTileFallback"
"""1 on an output frame that was made in smaller tiles than chosen at creation, for lack of memory."""

HALVINGS = "_RafrvsrHalvings"
"""How many times tiles had been halved by then: between our own nodes, users do not see it."""

# For who joins frames made apart, see README; on every output frame, once for every Upscale that it went through.
CHUNK = "_RafrvsrChunk"
"""Frames of a chunk: the grid."""
NUMERICS = "_RafrvsrNumerics"
"""Model, weights, PyTorch's version, precision, kernels, the pixels' route and tiles."""
DEVICE = "_RafrvsrDevice"
"""The kind of device."""
