"""Compares decoded frames with what pydicom decodes and prints the differences as JSON.

Argument: the path of a JSON file, a list of objects with `file`, a DICOM file, and `frames`, the paths
of its frames as they are to be judged: samples in little endian. Answer: a list of objects with
`frames`, how many pydicom finds, `worst`, the greatest difference of two samples, and `mean`, the mean
difference of the frame that differs most; or `error`.
"""

import json
import sys

import numpy
import pydicom
from pydicom.pixels import iter_pixels, pixel_array

DCT = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51")


def laid_out(frame, source):
    """A frame as the answer of the service holds it."""
    if source.BitsAllocated == 1:
        return numpy.packbits(frame.ravel(), bitorder="little")
    compressed = source.file_meta.TransferSyntaxUID.is_encapsulated
    if source.get("PlanarConfiguration") == 1 and not compressed and frame.ndim == 3:
        frame = frame.transpose(2, 0, 1)
    return frame.astype(frame.dtype.newbyteorder("<")).ravel()


def frames_of(source, raw):
    if source.BitsAllocated > 1:
        return iter_pixels(source, raw=raw)
    # One by one, pydicom does not read frames that begin within a byte.
    every = pixel_array(source, raw=raw)
    return every if every.ndim == 3 else [every]


def stored_bits(samples, source):
    """Without the bits above those stored, which pydicom clears and the service keeps: overlays."""
    if source.get("PixelRepresentation") == 0 and source.HighBit + 1 == source.BitsStored:
        return samples & ((1 << source.BitsStored) - 1)
    return samples


def compared(file, paths):
    source = pydicom.dcmread(file)
    # The service gives the colours of a stream as they are, but for those of the DCT.
    raw = source.file_meta.TransferSyntaxUID not in DCT
    count, worst, mean = 0, 0, 0.0
    for frame in frames_of(source, raw):
        theirs = laid_out(frame, source)
        with open(paths[count], "rb") as part:
            ours = numpy.frombuffer(part.read(), dtype=theirs.dtype)
        if ours.shape != theirs.shape:
            return {"error": f"{ours.shape} samples, not {theirs.shape}"}
        if ours.dtype.kind == "f":
            differs = 0 if numpy.array_equal(ours, theirs, equal_nan=True) else 1
        else:
            apart = stored_bits(ours.astype("i8"), source) - stored_bits(theirs.astype("i8"), source)
            differs = int(numpy.abs(apart).max())
            mean = max(mean, float(numpy.abs(apart).mean()))
        worst = max(worst, differs)
        count += 1
    return {"frames": count, "worst": worst, "mean": mean}


def main():
    with open(sys.argv[1]) as asked:
        images = json.load(asked)
    answer = []
    for image in images:
        try:
            answer.append(compared(image["file"], image["frames"]))
        except Exception as error:  # the scenario says which may fail
            answer.append({"error": f"{type(error).__name__}: {error}"})
    json.dump(answer, sys.stdout)


main()
