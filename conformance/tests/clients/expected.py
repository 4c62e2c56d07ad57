"""Writes what images look like on a screen, by pydicom, as RGB of eight bits.

Argument: the path of a JSON file with `out`, a folder, and `files`, DICOM files. Answer: a list of objects with
`instance`, `rows`, `columns`, `syntax`, and `picture`, the file of its first frame's pixels, or `error`.

The look is the one that the image asks for: its first window, else its VOI LUT, else all that it holds
(PS3.3 C.11.2); then MONOCHROME1 is turned over.
"""

import json
import os
import sys

import numpy
import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi, apply_windowing, pixel_array


def grey(source, stored):
    values = apply_modality_lut(stored, source)
    if "WindowCenter" in source:
        shown = apply_windowing(values, source)
        low, high = reach(source)
    elif "VOILUTSequence" in source:
        shown = apply_voi(values, source)
        low, high = 0, 2 ** source.VOILUTSequence[0].LUTDescriptor[2] - 1
    else:
        shown, low, high = values, values.min(), values.max()
    scaled = (shown.astype("f8") - low) / max(high - low, 1) * 255
    scaled = numpy.clip(numpy.floor(scaled + 0.5), 0, 255)
    inverse = source.PhotometricInterpretation == "MONOCHROME1" or source.get("PresentationLUTShape") == "INVERSE"
    return 255 - scaled if inverse else scaled


def reach(source):
    """The range that apply_windowing spreads its result over."""
    if "ModalityLUTSequence" in source:
        return 0, 2 ** source.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    bits = source.BitsStored
    low, high = (0, 2**bits - 1) if source.PixelRepresentation == 0 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    slope, intercept = float(source.get("RescaleSlope", 1)), float(source.get("RescaleIntercept", 0))
    return low * slope + intercept, high * slope + intercept


def picture(source):
    frame = pixel_array(source, index=0)
    if source.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(frame, source)
        return (colours >> 8 if colours.dtype.itemsize == 2 else colours).astype("u1")
    if frame.ndim == 3:
        return (frame >> max(source.BitsStored - 8, 0)).astype("u1")
    return numpy.repeat(grey(source, frame).astype("u1")[:, :, None], 3, axis=2)


def main():
    with open(sys.argv[1]) as asked:
        asked = json.load(asked)
    answer = []
    for file in asked["files"]:
        source = pydicom.dcmread(file)
        found = {"instance": source.SOPInstanceUID, "syntax": source.file_meta.TransferSyntaxUID}
        try:
            pixels = picture(source)
            found["picture"] = os.path.join(asked["out"], source.SOPInstanceUID + ".rgb")
            with open(found["picture"], "wb") as out:
                out.write(numpy.ascontiguousarray(pixels).tobytes())
            found |= {"rows": source.Rows, "columns": source.Columns}
        except Exception as error:  # the test says which may fail
            found["error"] = f"{type(error).__name__}: {error}"
        answer.append(found)
    json.dump(answer, sys.stdout)


main()
