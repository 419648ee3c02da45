"""RAFRVSR for VapourSynth: x4 video super-resolution by a causal recurrent network with RAFT optical flow."""

__version__ = "0.1.0"
