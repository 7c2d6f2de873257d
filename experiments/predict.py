"""What a trained model sees in images: the class of each, with its probability, as a table and a picture.

    python experiments/predict.py digit.jpg --model mnist_cnn
    python experiments/predict.py folder_of_images --model runs/cifar10_convnet_1/model.safetensors

The images are a PNG or JPEG file, a folder of such, or an IDX file, of any size. A model of handwriting finds the ink
on them, whatever the paper, and scales and centres it as in its training data. Any other gets them resized, grey or
coloured, and --invert is for dark figures on white if it learned light ones on black. What is unlike the training data
is told.
"""

from funcnn.experiment import run_script
from funcnn.experiment.run_predict import parse_predict_options, run_predict


def main() -> None:
    run_predict(parse_predict_options(__doc__))


if __name__ == "__main__":
    run_script(main)
