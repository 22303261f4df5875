"""All thumbnails of a page in one picture."""

import base64
import io
import math
import warnings
from typing import Any

import pandas as pd
from PIL import Image

from mcnlab.errors import DataError

THUMBNAIL_PX = 48
FORMATS = ("PNG", "JPEG", "WEBP")
MOST_PIXELS = 2**24
"""Of a picture that may come from others: a few kilobytes can unpack to gigabytes."""


def sprite(clips: pd.DataFrame) -> dict[str, Any] | None:
    """All thumbnails in one picture, for the hover of a page.

    Args:
        clips: with a column `thumbnail` of image bytes or None.

    Returns:
        `uri`, `columns`, `size` in px; None when no clip has a thumbnail.

    Raises:
        DataError: bytes are not a PNG, JPEG or WebP image, or it has very many pixels.
    """
    if "thumbnail" not in clips or clips["thumbnail"].isna().all():
        return None
    across = math.ceil(math.sqrt(len(clips)))
    sheet = Image.new("RGB", (across * THUMBNAIL_PX, math.ceil(len(clips) / across) * THUMBNAIL_PX), (235, 238, 241))
    for place, content in enumerate(clips["thumbnail"]):
        if content is not None:
            sheet.paste(_thumbnail(content), (place % across * THUMBNAIL_PX, place // across * THUMBNAIL_PX))
    buffer = io.BytesIO()
    sheet.save(buffer, format="WEBP", quality=70)
    uri = "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
    return {"uri": uri, "columns": across, "size": THUMBNAIL_PX}


def _thumbnail(content: bytes) -> Image.Image:
    """One picture in the sheet's size."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > MOST_PIXELS:
                    raise Image.DecompressionBombError(f"{image.width} × {image.height} pixels")
                return image.convert("RGB").resize((THUMBNAIL_PX, THUMBNAIL_PX), Image.Resampling.LANCZOS)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"thumbnail: too many pixels ({error})") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"thumbnail: no PNG, JPEG or WebP ({error})") from error
