"""A small transformer learns to write like Shakespeare, one character after the other.

    python experiments/shakespeare_gpt.py                           4 blocks of 128 numbers, 2,000 steps of 12 x 64
    python experiments/shakespeare_gpt.py --recipe large            6 blocks of 192 numbers, context 128
    python experiments/shakespeare_gpt.py --text my_letters.txt     a text of your own, in UTF-8

The first is the net and the training that nanoGPT gives for a CPU, of which it states a validation loss of 1.88, but
for the rate, which is twice its 0.001.
The net tells every character from those before it, of 65; the loss is the mean of -log of the probability that it gave
to what came. At the end it writes a page.
"""

from funcnn.data import load_text
from funcnn.experiment import parse_options, run, run_script
from funcnn.experiment.generate import add_text_options, check_prompt, write_page
from funcnn.losses import softmax_cross_entropy
from funcnn.models import gpt
from funcnn.optimizers import adamw, chain, clip_by_global_norm, weights_only
from funcnn.schedules import warmup_cosine
from funcnn.train import Problem

NETS = {  # layers, heads, features, context, dropout
    "small": (4, 4, 128, 64, 0.0),
    "large": (6, 6, 192, 128, 0.1),
}


def main() -> None:
    rates = {"small": 2e-3, "large": 1e-3}
    options = parse_options(
        __doc__, name="shakespeare_gpt", epochs=8, batch_size=12, lr=rates, epoch_steps=250, add=add_text_options
    )
    layers, heads, features, context, dropout = NETS[options.recipe]
    data = load_text(options.own.text, context=context, data_dir=options.data_dir)
    prompt = options.own.prompt or data.classes[0]
    check_prompt(prompt, data.classes)
    if options.quick:
        data = data.thin(2000, 50)
    steps = options.epochs * options.epoch_steps
    rate = warmup_cosine(options.lr, min(100, steps // 10), steps, end=options.lr / 10)
    problem = Problem(
        gpt(len(data.classes), context, layers=layers, heads=heads, features=features, dropout=dropout),
        softmax_cross_entropy,
        chain(clip_by_global_norm(1.0), adamw(rate, b2=0.99, weight_decay=0.1, mask=weights_only)),
    )
    run(problem, data, options)
    write_page(options, prompt)


if __name__ == "__main__":
    run_script(main)
