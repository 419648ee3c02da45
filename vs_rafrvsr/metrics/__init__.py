"""How good a picture is: fidelity (PSNR, SSIM), perception (LPIPS), time (tOF, tLP), and the protocols that count it.

Frames are (N, H, W, 3) uint8 RGB, truth first; every function gives one figure per frame, (N,) or (N - 1,), fp64.
Needs the `train` extra (OpenCV, scikit-image).
"""

STUDIO_LUMA = (65.481, 128.553, 24.966)
"""BT.601 luma of R, G, B in [0, 1], in 8-bit steps of studio range: MATLAB's rgb2ycbcr."""

LEAST_ERROR = 1e-10
"""Mean squared error that equal frames are taken to have: a mean stays finite."""
