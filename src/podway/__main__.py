"""``python -m podway``."""

from podway.cli.main import main

main()
