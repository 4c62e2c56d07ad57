"""Writes what images look like on a screen, by pydicom, as RGB of eight bits.

Argument: the path of a JSON file with `out`, a folder, `files`, DICOM files, and `windows`, [center, width] pairs for a
modality. Answer: a list of objects with `instance`, `rows`, `columns`, `syntax`, and `picture`, the file of its first
frame's pixels, or `error`; with `windows` too, {`center`, `width`, `picture`} for each of its modality's, and with
`values`, the file of the first frame's values of the modality as floats of 32 bits, and `inverse`, where the image is
grey.

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
    return 255 - scaled if is_inverse(source) else scaled


def is_inverse(source):
    return source.PhotometricInterpretation == "MONOCHROME1" or source.get("PresentationLUTShape") == "INVERSE"


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


def written(asked, source, what, data):
    """The file that holds this."""
    file = os.path.join(asked["out"], f"{source.SOPInstanceUID}.{what}")
    with open(file, "wb") as out:
        out.write(numpy.ascontiguousarray(data).tobytes())
    return file


def in_windows(asked, source):
    """The picture in each of the windows that its modality has."""
    for center, width in asked["windows"].get(source.Modality, []):
        source.WindowCenter, source.WindowWidth = center, width
        yield {"center": center, "width": width, "picture": written(asked, source, f"{center}-{width}", picture(source))}


def main():
    with open(sys.argv[1]) as asked:
        asked = json.load(asked)
    answer = []
    for file in asked["files"]:
        source = pydicom.dcmread(file)
        found = {"instance": source.SOPInstanceUID, "syntax": source.file_meta.TransferSyntaxUID}
        try:
            found["picture"] = written(asked, source, "rgb", picture(source))
            found |= {"rows": source.Rows, "columns": source.Columns}
            if source.PhotometricInterpretation.startswith("MONOCHROME"):
                values = apply_modality_lut(pixel_array(source, index=0), source)
                found["values"] = written(asked, source, "values", values.astype("<f4"))
                found["inverse"] = is_inverse(source)
                found["windows"] = list(in_windows(asked, source))
        except Exception as error:  # the test says which may fail
            found["error"] = f"{type(error).__name__}: {error}"
        answer.append(found)
    json.dump(answer, sys.stdout)


main()
