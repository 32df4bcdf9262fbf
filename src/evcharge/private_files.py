"""Files that hold secrets, or what is known of drivers."""

import os


def private(path: str, flags: int) -> int:
    """An `opener` for `open`: a file that is made is for its owner alone."""
    return os.open(path, flags, 0o600)
