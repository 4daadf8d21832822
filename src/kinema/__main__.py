"""`python -m kinema`, which `torchrun -m kinema` needs."""

from kinema.cli import main

if __name__ == "__main__":
    main()
