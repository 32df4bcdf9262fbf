"""The one place that makes secrets: keys of charge points, tokens of operators."""

import secrets

KEY_BYTES = 32


def new_key() -> str:
    """A text that nobody guesses; only its hash is stored."""
    return secrets.token_urlsafe(KEY_BYTES)
