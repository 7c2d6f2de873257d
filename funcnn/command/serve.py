"""``funcnn serve``: a page to draw on, and a JSON API, for a trained net."""

from funcnn.command import mendable, net_name
from funcnn.experiment.options import new_parser, read_arguments
from funcnn.model_file import load_trained
from funcnn.trained import model_path, trained_models

__all__ = ["main"]

_DESCRIPTION = """A page to draw on, or to give an image to, and a JSON API, for a trained net that tells images apart.

    {0} mnist_cnn --open                         a net that comes along
    {0} runs/digits_cnn/model.safetensors        one that was trained here

It serves this machine alone until Ctrl-C."""


def main(arguments: list[str], prog: str) -> None:
    """Serve the page until Ctrl-C."""
    parser = new_parser(_DESCRIPTION.format(prog), prog)
    add = parser.add_argument
    add("model", metavar="MODEL", help=f"a model.safetensors, or one of {', '.join(trained_models())}")
    add("--port", type=int, default=8000, help="the port, 0 for any that is free (default %(default)s)")
    add("--host", default="127.0.0.1", help="the address to listen at; 0.0.0.0 lets others in (default %(default)s)")
    add("--allow", action="append", default=[], metavar="NAME", help="a name that it may be asked by; may be repeated")
    add("--open", action="store_true", help="open the page in the browser")
    options = read_arguments(parser, arguments)
    if not 0 <= options.port < 2**16:
        parser.error(f"--port {options.port}: expected a port from 0 to 65535")
    path = model_path(options.model)
    trained = load_trained(path)
    with mendable(ImportError, ValueError):  # an extra that is not installed, a net that tells no images apart
        from funcnn.web import serve

        serve(
            trained,
            name=net_name(path),
            host=options.host,
            port=options.port,
            hosts=options.allow,
            open_browser=options.open,
        )
