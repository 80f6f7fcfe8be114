"""`python -m nonet.cli` is `nonet`."""

from nonet.cli import main

main()
