"""Diagnostics: one pure function per question. Numpy in, plain values or a ``Finding`` out; no torch.

Every interval resamples whole prompts, because samples and pairs of one prompt are not independent.
"""
