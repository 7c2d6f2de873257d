"""A convolutional autoencoder squeezes images of clothes into a few numbers each, and makes images of these again.

    python experiments/fashion_autoencoder.py                           16 numbers, as near to the image as it can
    python experiments/fashion_autoencoder.py --variational             such that random numbers give images, too
    python experiments/fashion_autoencoder.py --variational --latent 2  as many as can be drawn

Strided convolutions make a code of an image of 28x28 pixels, transposed ones an image of a code. In the variational
form (Kingma & Welling 2014) a code's numbers are drawn, each from a normal distribution of its own, and how far these
are from the standard one is added to the loss. Losses are in nats an image, each pixel's the cross-entropy of how dark
it is; those of the parts are taken at the distributions' means.
"""

from argparse import ArgumentParser
from functools import partial
from pathlib import Path

import attrs
import numpy as np

from funcnn import Key, generator
from funcnn.compose import parallel, serial
from funcnn.data import Part, rescale
from funcnn.experiment import load_data, parse_options, run, run_script, steps_per_epoch
from funcnn.experiment.options import positive
from funcnn.layer import Array, Layer
from funcnn.layers import conv2d, conv_transpose2d, dense, flatten, gaussian_sample, identity, relu, reshape, sigmoid
from funcnn.losses import gaussian_kl, sigmoid_cross_entropy
from funcnn.model_file import Trained
from funcnn.optimizers import adam
from funcnn.report.latent import draw_images, draw_latent
from funcnn.schedules import warmup_cosine
from funcnn.train import Model, Problem, predict

SHOWN, INVENTED = 30, 60  # images in the pictures


def autoencoder(filters: tuple[int, int], latent: int, *, variational: bool) -> Layer:
    """(28, 28, 1) -> an image's logits (28, 28, 1), and its code: the numbers, or their means and log-variances."""
    few, many = filters
    encoder = serial(
        conv2d(few, 4, stride=2, padding=1),
        relu(),
        conv2d(many, 4, stride=2, padding=1),
        relu(),
        flatten(),
        dense(2 * latent if variational else latent),
    )
    decoder = serial(
        dense(7 * 7 * many),
        relu(),
        reshape((7, 7, many)),
        conv_transpose2d(few, 4, stride=2, padding=1),
        relu(),
        conv_transpose2d(1, 4, stride=2, padding=1),
    )
    numbers = gaussian_sample() if variational else identity()
    return serial(encoder, parallel(serial(numbers, decoder), identity(), combine="tuple"))


# --- Losses: outputs are logits and codes, targets the images as they are stored, in bytes --------------------


def reconstruction_loss(outputs: tuple[Array, Array], images: Array) -> tuple[float, tuple[Array, Array]]:
    """The mean over images of the cross-entropy of all pixels; the codes may be what they will."""
    logits, codes = outputs
    value, d_logits = sigmoid_cross_entropy(logits, images / np.float32(255), reduction="sum")
    return value / len(images), (d_logits / len(images), np.zeros_like(codes))


def variational_loss(outputs: tuple[Array, Array], images: Array) -> tuple[float, tuple[Array, Array]]:
    """The same, and the KL divergence of the codes' distributions from standard normal ones."""
    value, (d_logits, _) = reconstruction_loss(outputs, images)
    _, codes = outputs
    divergence, d_codes = gaussian_kl(codes, np.zeros_like(codes))
    return value + divergence, (d_logits, d_codes)


# --- Pictures of the kept net ---------------------------------------------------------------------------------


def draw_reconstructions(test: Part, trained: Trained, path: Path) -> None:
    images, _ = test.thin(SHOWN).take(slice(None))
    logits, _ = predict(trained.net, trained.model, images)
    title = "test images, and below each what is made of its code"
    draw_images(images, path, below=pixels(logits), title=title)


def draw_codes(latent: int, test: Part, labels: Array, trained: Trained, path: Path) -> None:
    _, codes = predict(trained.net, trained.model, test)
    title = "the codes of test images by their classes, of which the net knows nothing"
    draw_latent(codes[:, :latent], labels, trained.classes, path, title=title)


def draw_inventions(latent: int, seed: int, trained: Trained, path: Path) -> None:
    """Images of codes drawn from the standard normal distribution."""
    codes = generator(Key(seed)).standard_normal((INVENTED, latent), np.float32)
    _, heads = trained.net.config.children
    _, decoder = heads.config.children[0].config.children
    params, state = (each[1][0][1] for each in (trained.model.params, trained.model.state))
    logits = predict(decoder, Model(params, state), codes)
    draw_images(pixels(logits), path, title="what random codes give")


def pixels(logits: Array) -> Array:
    shares: Array = sigmoid().apply(None, None, logits).y
    return shares


# --- The experiment -------------------------------------------------------------------------------------------


def add_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--variational", action="store_const", const="_variational", default="", help="draw the codes, and invent")
    add("--latent", type=positive(int), default=16, help="the numbers of a code (default %(default)s)")
    add("--filters", type=positive(int), nargs=2, default=(16, 32), help="of the convolutions (default 16 32)")


def of_itself(part: Part | None) -> Part | None:
    """The same images, each to be made of itself."""
    return None if part is None else attrs.evolve(part, targets=part.inputs)


def main() -> None:
    name = "fashion_autoencoder{variational}"
    options = parse_options(__doc__, name=name, epochs=10, batch_size=128, lr=2e-3, add=add_options)
    clothes = load_data("fashion_mnist", options).prepared(rescale(255))
    labels, latent = clothes.test.targets, options.own.latent
    train, validation, test = map(of_itself, (clothes.train, clothes.validation, clothes.test))
    data = attrs.evolve(clothes, train=train, validation=validation, test=test)
    variational = bool(options.own.variational)
    steps = options.epochs * steps_per_epoch(data, options)
    problem = Problem(
        autoencoder(tuple(options.own.filters), latent, variational=variational),
        variational_loss if variational else reconstruction_loss,
        adam(warmup_cosine(options.lr, steps // 10, steps, start=options.lr / 20)),
        metric=None,
    )
    pictures = {"reconstructions.png": partial(draw_reconstructions, data.test)}
    if latent > 1:
        pictures["codes.png"] = partial(draw_codes, latent, data.test, labels)
    if variational:
        pictures["inventions.png"] = partial(draw_inventions, latent, options.seed)
    run(problem, data, options, pictures=pictures)


if __name__ == "__main__":
    run_script(main)
