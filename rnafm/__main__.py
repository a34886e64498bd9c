"""``python -m rnafm``: the same as the command ``rnafm``."""

from rnafm.cli import main

if __name__ == "__main__":
    main()
