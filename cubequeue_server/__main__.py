"""`python -m cubequeue_server`: the command line, where its script is not on the path."""

from cubequeue_server.cli import main

main()
