"""Compares pictures with what pydicom makes of the same frames and prints the differences as JSON.

Argument: the path of a JSON file, a list of objects with `file`, a DICOM file, `frame`, from 0, and
`picture`, the path of what is judged: one byte a sample, grey or RGB by pixel. Answer: a list of
objects with `worst`, the greatest difference of two samples, and `mean`; or `error`.
"""

import json
import sys

import numpy
import pydicom
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

GROUPS = ("PixelValueTransformationSequence", "FrameVOILUTSequence")


def group_of(source, frame, name):
    """The item of a functional group: that of the frame, else the one that all frames share."""
    own = source.get("PerFrameFunctionalGroupsSequence")
    shared = source.get("SharedFunctionalGroupsSequence")
    for groups in (own and own[frame], shared and shared[0]):
        if groups and name in groups:
            return groups[name][0]
    return None


def flatten(source, frame):
    """Puts what functional groups say of a frame where pydicom looks for it."""
    for name in GROUPS:
        for element in group_of(source, frame, name) or []:
            source.add(element)


def output_range(source):
    """The values between which pydicom puts what it shows."""
    if "VOILUTSequence" in source:
        return 0, 2 ** source.VOILUTSequence[0].LUTDescriptor[2] - 1
    if "ModalityLUTSequence" in source:
        return 0, 2 ** source.ModalityLUTSequence[0].LUTDescriptor[2] - 1
    low, high = 0, 2**source.BitsStored - 1
    if source.PixelRepresentation:
        low, high = -(2 ** (source.BitsStored - 1)), 2 ** (source.BitsStored - 1) - 1
    slope, intercept = source.get("RescaleSlope", 1), source.get("RescaleIntercept", 0)
    return low * slope + intercept, high * slope + intercept


def grey(source, stored):
    values = apply_modality_lut(stored, source)
    shown = apply_voi_lut(values, source)
    low, high = (float(end) for end in output_range(source))
    part = (shown.astype("f8") - low) / (high - low)
    return 1 - part if source.PhotometricInterpretation == "MONOCHROME1" else part


def shown(source, frame):
    if source.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_color_lut(pixel_array(source, index=frame), source)
        return colours / float(numpy.iinfo(colours.dtype).max)
    if source.SamplesPerPixel == 3:
        return pixel_array(source, index=frame) / 255.0
    return grey(source, pixel_array(source, index=frame))


def compared(file, frame, picture):
    source = pydicom.dcmread(file)
    flatten(source, frame)
    theirs = numpy.rint(shown(source, frame) * 255).astype("i8").ravel()
    with open(picture, "rb") as samples:
        ours = numpy.frombuffer(samples.read(), dtype="u1").astype("i8")
    if ours.shape != theirs.shape:
        return {"error": f"{ours.shape} samples, not {theirs.shape}"}
    apart = numpy.abs(ours - theirs)
    return {"worst": int(apart.max()), "mean": float(apart.mean())}


def main():
    with open(sys.argv[1]) as asked:
        pictures = json.load(asked)
    answer = []
    for one in pictures:
        try:
            answer.append(compared(one["file"], one["frame"], one["picture"]))
        except Exception as error:  # the scenario says which may fail
            answer.append({"error": f"{type(error).__name__}: {error}"})
    json.dump(answer, sys.stdout)


main()
