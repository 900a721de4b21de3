"""The verbs of the command line, a file each or a few; `__main__` dispatches to them."""
