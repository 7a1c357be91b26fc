"""Exact small worlds in which over-optimisation is computed, not estimated.

All answers are listed, gold is known, and the policy that an optimiser would reach is written down in closed
form. So nothing here is a training run that may have gone wrong: what is left is the reward model's error.
Numpy and scipy only.
"""
