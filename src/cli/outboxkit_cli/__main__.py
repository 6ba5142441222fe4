"""`python -m outboxkit_cli` is the command `outboxkit`."""

from outboxkit_cli.main import main

main()
