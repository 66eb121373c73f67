"""`python -m proxy` is `scope-proxy`."""

from proxy.cli.main import main

main()
