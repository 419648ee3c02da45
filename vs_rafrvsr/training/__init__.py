"""Training: clips to GPU tensors, degradation, losses, the loop. Needs the `train` extra (OpenCV, scikit-image)."""
