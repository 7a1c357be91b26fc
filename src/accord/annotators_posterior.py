"""The posterior of annotators' inverse temperatures and side biases: with d unknown, and with d given."""

from __future__ import annotations

import numpy as np
from scipy import sparse, special

from accord.annotators_labels import FloatArray, Labels

PRIOR_MEAN, PRIOR_DEVIATION, SIDE_DEVIATION = 1.0, 2.0, 1.0
REACH = 6.0  # standard deviations of d; beyond lie 2e-9 of the mass


def prior(x: FloatArray, J: int) -> tuple[float, FloatArray]:
    """Negative log density (without constants) and its gradient."""
    away = np.concatenate([x[:J] - PRIOR_MEAN, x[J:]])
    weight = precision(J)
    return float(0.5 * (weight * away**2).sum()), weight * away


def precision(J: int) -> FloatArray:
    """Inverse variances of the prior, of β_J and then side_J."""
    return np.concatenate([np.full(J, PRIOR_DEVIATION**-2.0), np.full(J, SIDE_DEVIATION**-2.0)])


class Marginal:
    """The posterior of (β_J, side_J) with every pair's d integrated out.

    Q nodes of the trapezoid rule on ±`REACH` standard deviations stand for d; the arrays [N, Q] hold every
    label at every node. Of an analytic integrand that dies out, the rule's error falls as exp(-2π·a/h) with
    the step h and the distance a = π/|β| to the logistic's nearest pole: 2e-6 at h = ¼ and β = 6.
    """

    def __init__(self, labels: Labels, nodes: int) -> None:
        self.labels = labels
        self.J = len(labels.names)
        N, P = len(labels.pair_N), int(labels.pair_N.max()) + 1
        self.node_Q: FloatArray = np.linspace(-REACH, REACH, nodes)
        self.log_weight_Q: FloatArray = -0.5 * self.node_Q**2
        self.log_weight_Q -= special.logsumexp(self.log_weight_Q)
        self.by_pair_PN = sparse.csr_array((np.ones(N), (labels.pair_N, np.arange(N))), shape=(P, N))
        self.by_annotator_JN = sparse.csr_array(
            (np.ones(N), (labels.annotator_N, np.arange(N))), shape=(self.J, N)
        )

    def _logit_NQ(self, x: FloatArray) -> FloatArray:
        beta_N, side_N = x[self.labels.annotator_N], x[self.J + self.labels.annotator_N]
        logit_NQ: FloatArray = beta_N[:, None] * self.node_Q + (side_N * self.labels.left_N)[:, None]
        return logit_NQ

    def _posterior_PQ(self, logit_NQ: FloatArray) -> tuple[FloatArray, float]:
        """Weight of each node for each pair, and the log-likelihood of all labels."""
        log_NQ = self.labels.verdict_N[:, None] * logit_NQ - np.logaddexp(0, logit_NQ)
        log_PQ = self.by_pair_PN @ log_NQ + self.log_weight_Q
        total_P = special.logsumexp(log_PQ, axis=1)
        return np.exp(log_PQ - total_P[:, None]), float(total_P.sum())

    def log_likelihood(self, x: FloatArray) -> float:
        """Of all labels, nats, without the prior."""
        return self._posterior_PQ(self._logit_NQ(x))[1]

    def loss_and_gradient(self, x: FloatArray) -> tuple[float, FloatArray]:
        """Minus the log posterior and its gradient; x is β_J, then side_J."""
        logit_NQ = self._logit_NQ(x)
        posterior_PQ, log_likelihood = self._posterior_PQ(logit_NQ)
        pull_NQ = (self.labels.verdict_N[:, None] - special.expit(logit_NQ)) * posterior_PQ[
            self.labels.pair_N
        ]
        beta_J = self.by_annotator_JN @ (pull_NQ @ self.node_Q)
        side_J = self.by_annotator_JN @ (pull_NQ.sum(axis=1) * self.labels.left_N)
        penalty, slope = prior(x, self.J)
        return penalty - log_likelihood, slope - np.concatenate([beta_J, side_J])

    def information(self, x: FloatArray) -> FloatArray:
        """Minus the Hessian of the log posterior, [2J, 2J]: Louis 1982, eq. 3.2'.

        The information of labels whose d were known, minus what is lost by not knowing it: the variance of
        the score over the posterior of d. One node at a time, so that memory is P × 2J.
        """
        logit_NQ = self._logit_NQ(x)
        posterior_PQ, _ = self._posterior_PQ(logit_NQ)
        labels, J = self.labels, self.J
        N = len(labels.pair_N)
        rows_N = np.arange(N)
        known = np.zeros((2 * J, 2 * J))
        second = np.zeros((2 * J, 2 * J))
        mean_PJ = np.zeros((self.by_pair_PN.shape[0], 2 * J))
        for q, node in enumerate(self.node_Q):
            # What the logit of each label depends on: node for its annotator's β, ±1 for their side
            slope_NJ = sparse.csr_array(
                (
                    np.concatenate([np.full(N, node), labels.left_N]),
                    (np.tile(rows_N, 2), np.concatenate([labels.annotator_N, J + labels.annotator_N])),
                ),
                shape=(N, 2 * J),
            )
            share_N = special.expit(logit_NQ[:, q])
            weight_P = posterior_PQ[:, q]
            spread_N = share_N * (1 - share_N) * weight_P[labels.pair_N]
            known += (slope_NJ.T @ (slope_NJ * spread_N[:, None])).toarray()
            pull_N = labels.verdict_N - share_N
            score_PJ = (self.by_pair_PN @ (slope_NJ * pull_N[:, None])).toarray()
            second += score_PJ.T @ (score_PJ * weight_P[:, None])
            mean_PJ += score_PJ * weight_P[:, None]
        information: FloatArray = known - second + mean_PJ.T @ mean_PJ + np.diag(precision(J))
        return information


def logistic(design_N2: FloatArray, verdict_N: FloatArray) -> tuple[FloatArray, FloatArray, float]:
    """One annotator's (β, side) where d is known, the curvature there, and the log-likelihood."""
    x = np.array([PRIOR_MEAN, 0.0])
    for _ in range(100):
        share_N = special.expit(design_N2 @ x)
        slope = prior(x, 1)[1] - design_N2.T @ (verdict_N - share_N)
        curvature = (design_N2.T * (share_N * (1 - share_N))) @ design_N2 + np.diag(precision(1))
        step = np.linalg.solve(curvature, -slope)
        # The prior keeps the curvature above 1/4; a step of at most 1 cannot jump over the maximum.
        step *= min(1.0, 1.0 / max(np.abs(step).max(), 1e-300))
        x = x + step
        if np.abs(step).max() < 1e-10:
            break
    logit_N = design_N2 @ x
    return x, curvature, float((verdict_N * logit_N - np.logaddexp(0, logit_N)).sum())
