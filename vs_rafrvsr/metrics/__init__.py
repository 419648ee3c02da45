"""How good a picture is: fidelity (PSNR, SSIM), perception (LPIPS), time (tOF, tLP), and the protocols that count it.

Frames are (N, H, W, 3) uint8 RGB, truth first; every function gives one figure per frame, (N,) or (N - 1,), fp64.
Needs the `train` extra (OpenCV, scikit-image).
"""
