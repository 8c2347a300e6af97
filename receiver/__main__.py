"""The entry of child processes: `python -m receiver http FD…` and `python -m receiver pipeline`."""

from receiver.children import main

main()
