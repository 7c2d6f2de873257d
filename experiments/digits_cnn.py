"""A small convolutional net with batch norm and dropout learns handwritten digits, from the data in the package.

    python experiments/digits_cnn.py            trains, and leaves its results in runs/digits_cnn
    python experiments/digits_cnn.py --resume   goes on where the last run was stopped

1,797 images of 8x8 pixels (UCI's optical digits), four fifths of them to train and validate on. The net and how it is
trained are in funcnn/experiment/digits.py, since `funcnn demo` does the same.
"""

from funcnn.experiment import run_script
from funcnn.experiment.digits import digits_options, train_digits


def main() -> None:
    train_digits(digits_options(__doc__))


if __name__ == "__main__":
    run_script(main)
