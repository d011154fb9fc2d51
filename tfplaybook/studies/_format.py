"""How numbers and names are written in tables and pictures."""


def format_value(value: object) -> str:
    """Write a hyperparameter value or a metric with four significant digits.

    >>> format_value(0.00031623), format_value(256), format_value(True), format_value("adam")
    ('0.0003162', '256', 'True', 'adam')
    """
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def shorten(text: str, length: int) -> str:
    """Cut the middle out of a text that is longer than `length` characters.

    Both ends of a long name tell more than its middle.

    >>> shorten("optimizer=adam/learning_rate", 15)
    'optimiz…ng_rate'
    """
    if len(text) <= length:
        return text
    kept = length - 1
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def in_two_lines(name: str, length: int) -> str:
    r"""Break a name longer than `length` before its conditions; shorten what is still too long.

    >>> in_two_lines("learning_rate (optimizer=adam)", 20)
    'learning_rate\n(optimizer=adam)'
    >>> in_two_lines("learning_rate", 20)
    'learning_rate'
    """
    if len(name) <= length:
        return name
    declared, opening, conditions = name.partition(" (")
    lines = (declared, opening.strip() + conditions)
    return "\n".join(shorten(line, length) for line in lines if line)
