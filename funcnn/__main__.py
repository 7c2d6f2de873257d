"""``python -m funcnn``: the command `funcnn`, wherever its script is not on the path."""

from funcnn.command import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
