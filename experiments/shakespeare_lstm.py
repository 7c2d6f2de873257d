"""A recurrent net learns to write like Shakespeare, for comparison with the transformer of shakespeare_gpt.py.

    python experiments/shakespeare_lstm.py                   an LSTM of 256 units, 2,000 steps of 12 x 64 characters
    python experiments/shakespeare_lstm.py --layers 2 --units 512 --dropout 0.2 --batch-size 64 --epochs 40

The text, the steps, the batches and the page at the end are those of the transformer. Each window of 64 characters
begins with an empty memory.
"""

from argparse import ArgumentParser

from funcnn import serial
from funcnn.data import load_text
from funcnn.experiment import parse_options, run, run_script
from funcnn.experiment.generate import add_text_options, check_prompt, write_page
from funcnn.experiment.options import positive, share
from funcnn.layer import Layer
from funcnn.layers import dense, dropout, embedding, lstm
from funcnn.losses import softmax_cross_entropy
from funcnn.optimizers import adam, chain, clip_by_global_norm
from funcnn.schedules import warmup_cosine
from funcnn.train import Problem

CONTEXT = 64


def net(characters: int, units: int, layers: int, rate: float) -> Layer:
    stack = [embedding(characters, units)]
    for _ in range(layers):
        stack += [lstm(units), *([dropout(rate)] if rate else [])]
    return serial(*stack, dense(characters, per_position=True))


def add_options(parser: ArgumentParser) -> None:
    add_text_options(parser)
    add = parser.add_argument
    add("--units", type=positive(int), default=256, help="the units of a layer (default %(default)s)")
    add("--layers", type=positive(int), default=1, help="the recurrent layers (default %(default)s)")
    add("--dropout", type=share, default=0.0, help="what is dropped after each of them (default %(default)s)")


def main() -> None:
    options = parse_options(
        __doc__, name="shakespeare_lstm", epochs=8, batch_size=12, lr=4e-3, epoch_steps=250, add=add_options
    )
    own = options.own
    data = load_text(own.text, context=CONTEXT, data_dir=options.data_dir)
    prompt = own.prompt or data.classes[0]
    check_prompt(prompt, data.classes)
    if options.quick:
        data = data.thin(2000, 50)
    steps = options.epochs * options.epoch_steps
    rate = warmup_cosine(options.lr, min(100, steps // 10), steps, end=options.lr / 10)
    problem = Problem(
        net(len(data.classes), own.units, own.layers, own.dropout),
        softmax_cross_entropy,
        chain(clip_by_global_norm(1.0), adam(rate)),
    )
    run(problem, data, options)
    write_page(options, prompt)


if __name__ == "__main__":
    run_script(main)
