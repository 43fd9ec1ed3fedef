"""`python -m etude.cli`."""

from etude.cli import main

main()
