"""What TensorFlow's errors say to a user, without what they say to its developers."""

import re

_NOISE = re.compile(
    r"\{\{function_node [^}]*\}\}\s*|\s*\[\[\{\{node [^}]*\}\}\]\]|\s*\[Op:\w+\](?: name:[^\n]*)?"
)


def plain_message(error: Exception) -> str:
    """Return the message of `error` without names of nodes and operations, and its last period.

    Examples:
        >>> plain_message(ValueError("{{function_node __wrapped__A}} Too long. [Op:A] name: "))
        'Too long'
    """
    return _NOISE.sub("", getattr(error, "message", str(error))).strip().removesuffix(".")
