"""``funcnn predict``: the classes of images, as ``experiments/predict.py`` tells them."""

from funcnn.experiment.run_predict import parse_predict_options, run_predict

__all__ = ["main"]

_DESCRIPTION = """What a trained net sees in images: the class of each, with its probability, as a table and a picture.

    {0} drawing.jpg --model mnist_cnn                       a net that comes along
    {0} folder --model runs/digits_cnn/model.safetensors    one that was trained here

The images are a PNG or JPEG file, a folder of such, or an IDX file, of any size. A net of handwriting finds the ink on
them and prepares it as its training data were; any other gets them resized. What is unlike those is told."""


def main(arguments: list[str], prog: str) -> None:
    """Predict, and leave a table and a picture."""
    run_predict(parse_predict_options(_DESCRIPTION.format(prog), arguments, prog))
