"""The one place that makes secrets: keys of charge points and drivers, tokens of operators."""

import secrets

KEY_BYTES = 32


def new_key() -> str:
    """A text that nobody guesses."""
    return secrets.token_urlsafe(KEY_BYTES)
