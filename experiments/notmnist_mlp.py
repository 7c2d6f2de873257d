"""Fully connected nets of any depth, set up on the command line, learn notMNIST: letters A to J in many typefaces.

    python experiments/notmnist_mlp.py --num_epochs 2 --optimizer GD --layers 784,100,10 \\
        --active_funcs linear,sigmoid --regularizers dropOut,nothing --lr 0.7
    python experiments/notmnist_mlp.py --num-epochs 30 --optimizer adam --layers 784,256,128,10 \\
        --active-funcs relu,relu,linear --regularizers dropOut,dropOut,nothing --lr 0.001

The first is the command of arghavan-kpm/dynamic-nn-from-scratch, and means what that says: each layer after the input
has an activation and a regularizer, and softmax with its cross-entropy follows the last one (so linear suits it best).
GD takes the whole training part in a step, SGD one image, and momentum and adam take --batch-size of them.
"""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable
from functools import partial

import attrs

from funcnn import Layer, layers, serial
from funcnn.experiment import load_data, parse_options, run, run_script
from funcnn.experiment.options import positive, share
from funcnn.losses import softmax_cross_entropy
from funcnn.model_file import load_trained
from funcnn.optimizers import Optimizer, adam, add_decayed_weights, chain, momentum, sgd, weights_only
from funcnn.train import Model, Problem

ACTIVATIONS: dict[str, Callable[[], Layer]] = {
    "sigmoid": layers.sigmoid, "linear": layers.identity, "tanh": layers.tanh, "relu": layers.relu,
}  # fmt: skip
REGULARIZERS = ("dropOut", "L2Norm", "nothing")
OPTIMIZERS: dict[str, Callable[[float], Optimizer]] = {"GD": sgd, "SGD": sgd, "momentum": momentum, "adam": adam}


def names(known: tuple[str, ...]) -> Callable[[str], list[str]]:
    def split(text: str) -> list[str]:
        given = [each.strip() for each in text.split(",")]
        unknown = [each for each in given if each not in known]
        if unknown:
            raise ArgumentTypeError(f"expected names out of {', '.join(known)}, got {', '.join(unknown)}")
        return given

    return split


def sizes(text: str) -> list[int]:
    numbers = [positive(int)(each) for each in text.split(",")]
    if len(numbers) < 2:
        raise ArgumentTypeError(f"expected the input's size and at least one layer's, as 784,10, got {text}")
    return numbers


def add_options(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--num-epochs", dest="epochs", type=positive(int), help="the same as --epochs")
    add("--dataset-dir", dest="data_dir", help="the same as --data-dir")
    add("--optimizer", choices=tuple(OPTIMIZERS), default="GD", help="(default %(default)s)")
    add("--layers", type=sizes, default=[784, 100, 10], help="sizes, from the input's on (default 784,100,10)")
    add("--active-funcs", type=names(tuple(ACTIVATIONS)), default=["linear", "sigmoid"],
        help=f"of each layer after the input, out of {', '.join(ACTIVATIONS)} (default linear,sigmoid)")  # fmt: skip
    add("--regularizers", type=names(REGULARIZERS), default=["dropOut", "nothing"],
        help=f"of each layer after the input, out of {', '.join(REGULARIZERS)} (default dropOut,nothing)")  # fmt: skip
    add("--dropout", type=share, default=0.2, help="the share that dropOut drops (default %(default)s)")
    add("--l2", type=positive(float), default=1e-4, help="the strength of L2Norm (default %(default)s)")
    add("--input-noise", type=positive(float), help="the deviation of noise on the input, whose pixels are 0 to 1")
    add("--weights", help="the model.safetensors of an earlier run, to start from")


def check(own: Namespace, in_size: int, classes: int) -> None:
    count = len(own.layers) - 1
    for option, given in (("--active-funcs", own.active_funcs), ("--regularizers", own.regularizers)):
        if len(given) != count:
            sys.exit(
                f"error: {option} must have one name for each of the {count} layers after the input of --layers "
                f"{','.join(map(str, own.layers))}, got {len(given)}: {','.join(given)}"
            )
    if (own.layers[0], own.layers[-1]) != (in_size, classes):
        sys.exit(
            f"error: --layers must start with the {in_size} pixels and end with the {classes} classes, "
            f"got {','.join(map(str, own.layers))}"
        )


def build(own: Namespace) -> Layer:
    stack = [layers.flatten()]
    if own.input_noise:
        stack.append(layers.gaussian_noise(own.input_noise))
    for units, activation, regularizer in zip(own.layers[1:], own.active_funcs, own.regularizers, strict=True):
        block = [layers.dense(units), ACTIVATIONS[activation]()]
        stack += [*block, layers.dropout(own.dropout)] if regularizer == "dropOut" else block
    return serial(*stack)


def weights_of(path: str, net: Layer, sizes: list[int]) -> Model:
    """The model of this net with the weights of a trained one of the same layers, whatever regularized that."""
    trained = load_trained(path)
    both = zip(trained.net.config.children, trained.model.params, strict=True)
    given = [params for layer, params in both if layer.name == "dense"]
    theirs = [each.weight.shape[0] for each in given[:1]] + [each.weight.shape[1] for each in given]
    if theirs != sizes:
        sys.exit(
            f"error: --weights {path}: its layers are {','.join(map(str, theirs))}, those of --layers "
            f"{','.join(map(str, sizes))}. Pass --layers {','.join(map(str, theirs))}"
        )
    params = tuple(given.pop(0) if layer.name == "dense" else None for layer in net.config.children)
    return Model(params, (None,) * len(params))


def decays(path: str, leaf: object, *, places: tuple[str, ...]) -> bool:
    """Whether a parameter is a weight of one of the layers at these places of the net."""
    return path.partition(".")[0] in places and weights_only(path, leaf)


def main() -> None:
    options = parse_options(__doc__, name="notmnist_mlp", epochs=2, batch_size=64, lr=0.7, add=add_options)
    own = options.own
    data = load_data("notmnist", options)
    check(own, data.train.inputs[0].size, len(data.classes))
    whole = {"GD": len(data.train), "SGD": 1}
    options = attrs.evolve(options, batch_size=whole.get(own.optimizer, options.batch_size))

    net = build(own)
    dense = [str(i) for i, layer in enumerate(net.config.children) if layer.name == "dense"]
    places = tuple(i for i, each in zip(dense, own.regularizers, strict=True) if each == "L2Norm")
    optimizer = OPTIMIZERS[own.optimizer](options.lr)
    if places:
        optimizer = chain(add_decayed_weights(own.l2, mask=partial(decays, places=places)), optimizer)
    initial = weights_of(own.weights, net, own.layers) if own.weights else None
    run(Problem(net, softmax_cross_entropy, optimizer), data, options, initial=initial)


if __name__ == "__main__":
    run_script(main)
