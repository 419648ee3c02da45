"""Pixels between VapourSynth's plane memory and the network's tensors."""
