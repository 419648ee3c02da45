"""Names of the frame properties that Upscale writes, for who writes them and who reads them."""

RESET = "_RafrvsrReset"
"""1 on an output frame with which the recurrence began anew."""

FALLBACK = "_RafrvsrTileFallback"
"""How many times tiles were halved for lack of memory, on an output frame that was made in such smaller tiles."""

# For who joins frames made apart, see README; on every output frame, once for every Upscale that it went through.
CHUNK = "_RafrvsrChunk"
"""Frames of a chunk: the grid."""
NUMERICS = "_RafrvsrNumerics"
"""Model, weights, precision, kernels, the pixels' route and tiles."""
DEVICE = "_RafrvsrDevice"
"""The kind of device."""
