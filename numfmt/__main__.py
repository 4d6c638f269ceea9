"""`python -m numfmt`: the command line, also where the script `nfmt` is not on the path."""

from .cli import main

if __name__ == "__main__":
    raise SystemExit(main())
