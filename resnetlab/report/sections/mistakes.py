"""The most confidently wrong test images, as thumbnails: only where asked for, as images may be of patients."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from resnetlab.analysis.evaluation.mistakes import most_wrong
from resnetlab.report.findings import Findings
from resnetlab.report.formatting import missing, percent
from resnetlab.report.layout import Section, Table

SIDE = 72  # pixels of a thumbnail's longer side


def section(findings: Findings) -> Section | None:
    """None where nobody asked."""
    asked, arm = findings.wrong_images, findings.shown_arm
    if asked is None or arm is None:
        return None
    found = most_wrong(findings.results, arm, asked.count)
    if found.empty:
        return Section("mistakes", "Most confidently wrong", [f"No run of {arm.name} was wrong on a test image."])
    names = findings.class_names(arm)
    pictures = asked.pictures([int(number) for number in found["image"]])
    rows = [
        [
            thumbnail(picture),
            f"image {row.image}" if missing(row.file) else row.file,
            names.get(row.label, f"class {row.label}"),
            names.get(row.predicted, f"class {row.predicted}"),
            f"{row.wrong} of {row.runs}",
            percent(row.confidence),
        ]
        for picture, row in zip(pictures, found.itertuples(index=False), strict=True)
    ]
    headings = ["Image", "File", "Class", "Predicted as", "Wrong in runs", "Confidence"]
    kinds = ["image", "code", "text", "text", "number", "number"]
    foot = (
        f"{arm.name}, {findings.arm_counts([arm])}. Test images, by the probability that the runs gave to a wrong "
        "class. Confidence: mean over the runs that were wrong; predicted as: what most of these said."
    )
    text = ["Look at these for wrong labels, for images that are of no class, and for what the classes share."]
    return Section("mistakes", "Most confidently wrong", text, [Table(headings, kinds, rows, foot)])


def thumbnail(pixels: np.ndarray) -> str:
    """(H, W, C) uint8 as a PNG in a data URI; pixels of small images stay squares."""
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] < 3 else pixels[..., :3])
    scale = SIDE / max(image.size)
    size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    image = image.resize(size, Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
