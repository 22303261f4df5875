"""Small pictures of clips for the reports."""

import io

import numpy as np

WIDTH_PX, HEIGHT_PX = 56, 42


def as_png(picture: np.ndarray) -> bytes:
    """A picture as PNG.

    Args:
        picture: (height, width, 3), uint8.

    Returns:
        The bytes of the file.
    """
    from PIL import Image  # late: start-up time

    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def thumbnail_of(frames: np.ndarray, *, aspect: float) -> np.ndarray:
    """The middle frame in a small box, black bars where it does not fill it.

    Args:
        frames: (frames, height, width, 3), uint8.
        aspect: width over height as the frame should be shown; the frames themselves may be stretched.

    Returns:
        (42, 56, 3), uint8.
    """
    from PIL import Image  # late: start-up time

    height = max(1, min(HEIGHT_PX, round(WIDTH_PX / aspect)))
    width = max(1, min(WIDTH_PX, round(height * aspect)))
    small = Image.fromarray(frames[len(frames) // 2]).resize((width, height), Image.Resampling.BILINEAR)
    box = np.zeros((HEIGHT_PX, WIDTH_PX, 3), np.uint8)
    top, left = (HEIGHT_PX - height) // 2, (WIDTH_PX - width) // 2
    box[top : top + height, left : left + width] = np.asarray(small)
    return box
