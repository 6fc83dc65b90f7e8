"""Pages of HTML in one file: nothing is loaded from elsewhere."""

import base64
import html
import io

import numpy as np
import pandas as pd
from PIL import Image

from sklearn_cxr.utils._atomic import replacing

CSS = """
.cxr { font: 15px/1.5 system-ui, "Segoe UI", "DejaVu Sans", sans-serif; color: #1b1f24;
  background: #fff; max-width: 1080px; margin: 0 auto; padding: 8px 20px 40px; }
.cxr h1 { font-size: 26px; margin: 18px 0 4px; }
.cxr h2 { font-size: 19px; margin: 34px 0 8px; border-bottom: 1px solid #d5d9de;
  padding-bottom: 4px; }
.cxr h3 { font-size: 16px; margin: 22px 0 4px; }
.cxr p { margin: 6px 0; max-width: 78ch; }
.cxr .muted { color: #57606a; }
.cxr .scroll { overflow-x: auto; }
.cxr table { border-collapse: collapse; font-size: 14px; margin: 8px 0; }
.cxr th { text-align: left; border-bottom: 2px solid #8c959f; padding: 4px 14px 4px 0;
  white-space: nowrap; vertical-align: bottom; background: none; }
.cxr td { border-bottom: 1px solid #e4e8ec; padding: 4px 14px 4px 0; vertical-align: top;
  text-align: left; background: none; overflow-wrap: break-word; }
.cxr th.number, .cxr td.number { text-align: right; font-variant-numeric: tabular-nums;
  white-space: nowrap; }
.cxr .badge { display: inline-block; border-radius: 4px; padding: 0 8px; font-size: 13px;
  font-weight: 600; white-space: nowrap; }
.cxr .error { background: #a40e26; color: #fff; }
.cxr .warning { background: #ffd33d; color: #3b2300; }
.cxr .info { background: #dbe9f9; color: #0a3069; }
.cxr .films { display: flex; flex-wrap: wrap; gap: 10px; margin: 8px 0; }
.cxr .set { display: flex; gap: 4px; border: 1px solid #d5d9de; border-radius: 6px; padding: 6px; }
.cxr figure { margin: 0; width: 128px; }
.cxr figure img { display: block; width: 128px; height: 128px; object-fit: contain;
  background: #000; }
.cxr figcaption { padding-top: 3px; font-size: 11.5px; line-height: 1.35; color: #3d444d;
  overflow-wrap: anywhere; }
"""


def escape(text):
    """Make text safe to stand in HTML."""
    return html.escape(str(text))


def badge(severity):
    """Return a severity as a coloured word."""
    return f'<span class="badge {escape(severity)}">{escape(severity)}</span>'


def table(frame, *, formats=None, raw=()):
    """Turn a DataFrame into an HTML table.

    Parameters
    ----------
    frame : DataFrame
        The table; its index is left out.

    formats : dict or None, default=None
        Format of the numbers by column, such as ``"{:.3f}"``; missing ones are shown as a dash.

    raw : tuple of str, default=()
        Columns that hold HTML already.

    Returns
    -------
    str
        HTML.
    """
    formats = formats or {}
    numeric = {c: pd.api.types.is_numeric_dtype(frame[c]) for c in frame.columns}
    side = {c: ' class="number"' if numeric[c] else "" for c in frame.columns}
    head = "".join(f"<th{side[c]}>{escape(c)}</th>" for c in frame.columns)
    body = []
    for values in frame.itertuples(index=False):
        cells = []
        for c, value in zip(frame.columns, values, strict=True):
            if c in raw:
                text = value
            elif value is None or (np.ndim(value) == 0 and pd.isna(value)):
                text = "–"  # noqa: RUF001 - an en dash is the sign for "none" in a table
            else:
                text = escape(formats[c].format(value) if c in formats else value)
            cells.append(f"<td{side[c]}>{text}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    return (
        f'<div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def jpeg(image, *, side=128):
    """Bytes of a thumbnail.

    Parameters
    ----------
    image : ndarray of shape (h, w), dtype uint8
        Grey film.

    side : int, default=128
        Longer side in pixels.

    Returns
    -------
    bytes
        A JPEG file.
    """
    picture = Image.fromarray(image)
    scale = side / max(picture.size)
    size = tuple(max(1, round(length * scale)) for length in picture.size)
    how = Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST
    stream = io.BytesIO()
    picture.resize(size, how).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def picture(content, *, kind="jpeg", alt=""):
    """Return an ``img`` element that holds its picture.

    Parameters
    ----------
    content : bytes
        The file.

    kind : {"jpeg", "png"}, default="jpeg"
        Its format.

    alt : str, default=""
        What stands for it where it is not seen.

    Returns
    -------
    str
        HTML.
    """
    data = base64.b64encode(content).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/{kind};base64,{data}">'


def fragment(body):
    """Wrap HTML so that it can stand in a notebook: with its style, which touches nothing else."""
    return f'<style>{CSS}</style><div class="cxr">{body}</div>'


def write_page(path, title, body):
    """Write a whole page.

    Parameters
    ----------
    path : path-like
        The file; it is replaced when the new one is whole.

    title : str
        Title of the page.

    body : str
        HTML.
    """
    text = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title></head><body>{fragment(body)}</body></html>\n"
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
