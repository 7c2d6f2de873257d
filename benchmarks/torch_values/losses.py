"""Losses against PyTorch's, values and gradients in float64, options and kinks included."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from funcnn import losses
from funcnn.tree import Array

N, TIME, CLASSES = 9, 5, 6
RNG = np.random.default_rng(0)
LOGITS = 3 * RNG.standard_normal((N, CLASSES))
SEQUENCES = 3 * RNG.standard_normal((N, TIME, CLASSES))
LABELS = RNG.integers(CLASSES, size=N)
MANY = RNG.integers(CLASSES, size=(N, TIME))
PADDED = np.where(RNG.random((N, TIME)) < 0.3, -1, MANY)
WEIGHTS = RNG.random(N)
BY_CLASS = np.array([0.5, 2.0, 0.0, 1.0, 3.0, 0.25])
ROWS = RNG.dirichlet(np.ones(CLASSES), N)
BITS = RNG.integers(2, size=(N, CLASSES)).astype(float)
NUMBERS = np.round(RNG.standard_normal((N, CLASSES)), 1)
NEAR = NUMBERS + RNG.choice([-2.0, -1.0, -0.3, 0.0, 0.4, 1.0, 3.0], size=NUMBERS.shape)  # at kinks, too
SPELLED = np.array([[1, 2, 2], [3, -1, -1], [5, 1, -1], [4, 4, -1], [2, 3, 4], [1, -1, -1], [5, 5, -1], [1, 2, 1],
                    [-1, -1, -1]])  # fmt: skip
STEPS = np.array([5, 3, 4, 5, 3, 1, 3, 5, 2])


def tensor(values: Any) -> torch.Tensor:
    return torch.from_numpy(np.asarray(values))


def sequence_entropy(x: torch.Tensor, **options: Any) -> torch.Tensor:
    return F.cross_entropy(x.transpose(1, 2), tensor(PADDED), ignore_index=-1, **options)


def weighed_mean(terms: torch.Tensor) -> torch.Tensor:
    weights = tensor(WEIGHTS)
    return (weights * terms.reshape(N, -1).mean(dim=1)).sum() / weights.sum()


def sigmoid_focal(x: torch.Tensor, gamma: float, alpha: float | None) -> torch.Tensor:
    targets = tensor(BITS)
    p = torch.sigmoid(x)
    right = p * targets + (1 - p) * (1 - targets)
    terms = F.binary_cross_entropy_with_logits(x, targets, reduction="none") * (1 - right) ** gamma
    return (terms if alpha is None else terms * (alpha * targets + (1 - alpha) * (1 - targets))).mean()


def softmax_focal(x: torch.Tensor, gamma: float) -> torch.Tensor:
    log_p = F.log_softmax(x, dim=1)[torch.arange(N), tensor(LABELS)]
    return (-((1 - log_p.exp()) ** gamma) * log_p).mean()


def multi_margin(x: torch.Tensor, **options: Any) -> torch.Tensor:
    return CLASSES * F.multi_margin_loss(x, tensor(LABELS), **options)


def smooth_hinge(x: torch.Tensor) -> torch.Tensor:
    z = x * (2 * tensor(BITS) - 1)
    return torch.where(z <= 0, 0.5 - z, torch.where(z < 1, (1 - z) ** 2 / 2, 0 * z)).mean()


def gaussian(x: torch.Tensor) -> torch.Tensor:
    return F.gaussian_nll_loss(x[..., 0], tensor(NUMBERS[:, 0]), x[..., 1].exp(), eps=1e-12)


def gaussian_kl(x: torch.Tensor) -> torch.Tensor:
    made, wanted = (torch.distributions.Normal(y[:, :2], (y[:, 2:] / 2).exp()) for y in (x, tensor(NEAR[:, :4])))
    return torch.distributions.kl_divergence(made, wanted).sum(dim=1).mean()


def triplet(x: torch.Tensor) -> torch.Tensor:
    return F.triplet_margin_loss(x[:, 0], x[:, 1], x[:, 2], margin=1.0, eps=0.0)


def ctc(x: torch.Tensor, steps: Array) -> torch.Tensor:
    lengths = tensor((SPELLED >= 0).sum(axis=1))
    log_p = F.log_softmax(x, dim=2).transpose(0, 1)
    labels = tensor(np.maximum(SPELLED, 1))
    return F.ctc_loss(log_p, labels, tensor(steps), lengths, blank=0, reduction="sum") / N


TRIPLES = SEQUENCES[:, :3].copy()
TRIPLES[0, 0] = TRIPLES[0, 1]  # no distance, no slope
TRIPLES[1] = np.outer([0.0, 1.0, 2.0], np.eye(CLASSES)[0])  # at the margin

CASES: dict[str, tuple[Callable[..., Any], Array, Any, dict[str, Any], Callable[[torch.Tensor], torch.Tensor]]] = {
    "cross-entropy": (losses.softmax_cross_entropy, LOGITS, LABELS, {}, lambda x: F.cross_entropy(x, tensor(LABELS))),
    "cross-entropy, weights": (
        losses.softmax_cross_entropy, LOGITS, LABELS, {"weights": WEIGHTS},
        lambda x: weighed_mean(F.cross_entropy(x, tensor(LABELS), reduction="none")),
    ),
    "cross-entropy, class weights": (
        losses.softmax_cross_entropy, LOGITS, LABELS, {"class_weights": BY_CLASS},
        lambda x: F.cross_entropy(x, tensor(LABELS), weight=tensor(BY_CLASS)),
    ),
    "cross-entropy, smoothing, class weights": (
        losses.softmax_cross_entropy, LOGITS, LABELS, {"class_weights": BY_CLASS, "label_smoothing": 0.2},
        lambda x: F.cross_entropy(x, tensor(LABELS), weight=tensor(BY_CLASS), label_smoothing=0.2),
    ),
    "cross-entropy, distributions, smoothing": (
        losses.softmax_cross_entropy, LOGITS, ROWS, {"label_smoothing": 0.2},
        lambda x: F.cross_entropy(x, tensor(ROWS), label_smoothing=0.2),
    ),
    "cross-entropy, sequences, ignore": (
        losses.softmax_cross_entropy, SEQUENCES, PADDED, {"ignore": -1}, sequence_entropy,
    ),
    "cross-entropy, sequences, ignore, smoothing, class weights": (
        losses.softmax_cross_entropy, SEQUENCES, PADDED,
        {"ignore": -1, "label_smoothing": 0.1, "class_weights": BY_CLASS},
        lambda x: sequence_entropy(x, label_smoothing=0.1, weight=tensor(BY_CLASS)),
    ),
    "cross-entropy, sum, class weights": (
        losses.softmax_cross_entropy, LOGITS, LABELS, {"class_weights": BY_CLASS, "reduction": "sum"},
        lambda x: F.cross_entropy(x, tensor(LABELS), weight=tensor(BY_CLASS), reduction="sum"),
    ),
    "softmax focal": (losses.softmax_focal, LOGITS, LABELS, {"gamma": 1.5}, lambda x: softmax_focal(x, 1.5)),
    "kl divergence": (
        losses.kl_divergence, LOGITS, ROWS, {},
        lambda x: F.kl_div(F.log_softmax(x, dim=1), tensor(ROWS), reduction="batchmean"),
    ),
    "multi-class hinge": (
        losses.multiclass_hinge, LOGITS, LABELS, {"margin": 0.5}, lambda x: multi_margin(x, margin=0.5),
    ),
    "multi-class hinge, sum, class weights": (
        losses.multiclass_hinge, LOGITS, LABELS, {"class_weights": BY_CLASS, "reduction": "sum"},
        lambda x: multi_margin(x, weight=tensor(BY_CLASS), reduction="sum"),
    ),
    "sigmoid cross-entropy": (
        losses.sigmoid_cross_entropy, LOGITS, BITS, {},
        lambda x: F.binary_cross_entropy_with_logits(x, tensor(BITS)),
    ),
    "sigmoid cross-entropy, weights": (
        losses.sigmoid_cross_entropy, LOGITS, BITS, {"weights": WEIGHTS},
        lambda x: weighed_mean(F.binary_cross_entropy_with_logits(x, tensor(BITS), reduction="none")),
    ),
    "sigmoid focal": (
        losses.sigmoid_focal, LOGITS, BITS, {"alpha": 0.25}, lambda x: sigmoid_focal(x, 2.0, 0.25),
    ),
    "hinge": (
        losses.hinge, NEAR, BITS, {}, lambda x: F.relu(1 - x * (2 * tensor(BITS) - 1)).mean(),
    ),
    "squared hinge": (
        losses.squared_hinge, NEAR, BITS, {}, lambda x: (F.relu(1 - x * (2 * tensor(BITS) - 1)) ** 2).mean(),
    ),
    "smooth hinge": (losses.smooth_hinge, NEAR, BITS, {}, smooth_hinge),
    "squared error": (losses.mean_squared_error, NEAR, NUMBERS, {}, lambda x: F.mse_loss(x, tensor(NUMBERS))),
    "squared error, weights": (
        losses.mean_squared_error, NEAR, NUMBERS, {"weights": WEIGHTS},
        lambda x: weighed_mean(F.mse_loss(x, tensor(NUMBERS), reduction="none")),
    ),
    "absolute error": (losses.mean_absolute_error, NEAR, NUMBERS, {}, lambda x: F.l1_loss(x, tensor(NUMBERS))),
    "huber": (losses.huber, NEAR, NUMBERS, {"delta": 0.4}, lambda x: F.huber_loss(x, tensor(NUMBERS), delta=0.4)),
    "log cosh": (
        losses.log_cosh, NEAR, NUMBERS, {}, lambda x: torch.log(torch.cosh(x - tensor(NUMBERS))).mean(),
    ),
    "quantile": (
        losses.quantile, LOGITS, NUMBERS, {"q": 0.8},
        lambda x: torch.maximum(0.8 * (tensor(NUMBERS) - x), -0.2 * (tensor(NUMBERS) - x)).mean(),
    ),
    "poisson": (
        losses.poisson, LOGITS, np.abs(NUMBERS), {}, lambda x: F.poisson_nll_loss(x, tensor(np.abs(NUMBERS))),
    ),
    "poisson of rates": (
        losses.poisson, np.abs(NEAR), np.abs(NUMBERS), {"log_input": False},
        lambda x: F.poisson_nll_loss(x, tensor(np.abs(NUMBERS)), log_input=False),
    ),
    "gaussian nll": (losses.gaussian_nll, LOGITS[:, :2], NUMBERS[:, 0], {}, gaussian),
    "gaussian kl": (losses.gaussian_kl, LOGITS[:, :4], NEAR[:, :4], {}, gaussian_kl),
    "cosine distance": (
        losses.cosine_distance, LOGITS, NEAR, {}, lambda x: (1 - F.cosine_similarity(x, tensor(NEAR), dim=1)).mean(),
    ),
    "triplet": (losses.triplet, TRIPLES, None, {}, triplet),
    "ctc": (losses.ctc, SEQUENCES, SPELLED, {}, lambda x: ctc(x, np.full(N, TIME))),
    "ctc, steps": (losses.ctc, SEQUENCES, (SPELLED, STEPS), {}, lambda x: ctc(x, STEPS)),
}  # fmt: skip


def compare() -> dict[str, float]:
    """Of each case, the largest absolute difference from PyTorch over the value and the gradient."""
    found = {}
    for name, (loss, outputs, targets, options, peer) in CASES.items():
        value, d_outputs, *_ = loss(outputs, targets, **options)
        x = torch.from_numpy(outputs.copy()).requires_grad_()
        wanted = peer(x)
        (gradient,) = torch.autograd.grad(wanted, x)
        found[name] = max(abs(value - wanted.item()), float(np.abs(d_outputs - gradient.numpy()).max()))
    return found


if __name__ == "__main__":
    for name, difference in compare().items():
        print(f"{name:60} {difference:.1e}")
