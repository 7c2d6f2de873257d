"""A convolutional net learns your own images: a folder that has a folder of PNG or JPEG files for each class.

    python experiments/train_folder.py photos --size 64          images brought to 64x64 pixels
    python experiments/train_folder.py photos --size 48x96 --channels 1 --epochs 40
    python experiments/train_folder.py tiny-imagenet-200 --flip --batch-size 128

The net's size follows from the images'. A fifth of each class is held out for the test, a tenth of the rest to choose
the best net by; or these are the class folders below train, val and test, where there are such.
"""

from funcnn.experiment import run_script
from funcnn.experiment.images import image_options, train_images


def main() -> None:
    train_images(image_options(description=__doc__))


if __name__ == "__main__":
    run_script(main)
