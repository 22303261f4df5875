"""What a page must not carry away from the machine that made it."""

import re
from pathlib import Path

_HOMES = re.compile(
    r"(?<![\w+/.~-])(?:/home/[^/\s\"'<>&]+|/Users/[^/\s\"'<>&]+|/root|[A-Za-z]:\\{1,2}Users\\{1,2}[^\\/\s\"'<>&]+)(?=[/\\]|[\s\"'<>&,;:)]|$)"
)


def without_home(text: str) -> str:
    """Text in which home folders are written `~`: a report is mailed, and who made it need not stand in every path.

    Args:
        text: any, also a whole page.

    Returns:
        The same without the home folder of this user, and without those of the usual places.

    Example:
        >>> without_home("store /home/jane/stores/mine, C:\\\\Users\\\\jane\\\\x; /homepage/stays")
        'store ~/stores/mine, ~\\\\x; /homepage/stays'
    """
    own = str(Path.home())
    if len(Path(own).parts) > 2:  # else it is one of the usual places, or the root of everything
        text = re.sub(rf"(?<![\w+/.~-]){re.escape(own)}(?=[/\\\\\s\"'<>&,;:)]|$)", "~", text)
    return _HOMES.sub("~", text)
