"""Writes exams that readers meet, by pydicom: what the sample generator of the tests has not.

Argument: the path of a JSON file with `out`, a folder, and `slices`, how many images the long scanner has. Answer: the
exams, as the manifest of the samples has them.
"""

import base64
import json
import os
import sys

import numpy
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels import pack_bits
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, JPEGLSLossless, generate_uid

CT = "1.2.840.10008.5.1.4.1.1.2"
DX = "1.2.840.10008.5.1.4.1.1.1.1"
MG = "1.2.840.10008.5.1.4.1.1.1.2"
US_CINE = "1.2.840.10008.5.1.4.1.1.3.1"
SR = "1.2.840.10008.5.1.4.1.1.88.11"
KO = "1.2.840.10008.5.1.4.1.1.88.59"
PDF = "1.2.840.10008.5.1.4.1.1.104.1"
ATTACK = '<img src=x onerror="window.taken=1"><script>window.taken=1</script>'


# Eight pictures of 128 × 96 of a test chart, H.264 in MP4.
CLIP = base64.b64decode(
    "AAAAIGZ0eXBpc29tAAACAGlzb21pc28yYXZjMW1wNDEAAANwbW9vdgAAAGxtdmhkAAAAAAAAAAAAAAAAAAAD6AAAAyAAAQAAAQAAAAAAAAAAAA"
    "AAAAEAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAgAAAr90cmFrAAAAXHRraGQA"
    "AAADAAAAAAAAAAAAAAABAAAAAAAAAyAAAAAAAAAAAAAAAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAABAAAAAAAAAAAAAAAAAABAAAAAAIAAAABgAA"
    "AAAAAkZWR0cwAAABxlbHN0AAAAAAAAAAEAAAMgAAAIAAABAAAAAAI3bWRpYQAAACBtZGhkAAAAAAAAAAAAAAAAAAAoAAAAIABVxAAAAAAALWhk"
    "bHIAAAAAAAAAAHZpZGUAAAAAAAAAAAAAAABWaWRlb0hhbmRsZXIAAAAB4m1pbmYAAAAUdm1oZAAAAAEAAAAAAAAAAAAAACRkaW5mAAAAHGRyZW"
    "YAAAAAAAAAAQAAAAx1cmwgAAAAAQAAAaJzdGJsAAAAwnN0c2QAAAAAAAAAAQAAALJhdmMxAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAAAAIAAYABI"
    "AAAASAAAAAAAAAABDExhdmMgbGlieDI2NAAAAAAAAAAAAAAAAAAAAAAAAAAAGP//AAAAOGF2Y0MBZAAL/+EAGmdkAAuscgRCDbARAAADAAEAAA"
    "MAFA8UKYRgAQAHaOhDg5LIsP34+AAAAAAQcGFzcAAAAAEAAAABAAAAFGJ0cnQAAAAAAAAj5gAAI+YAAAAYc3R0cwAAAAAAAAABAAAACAAABAAA"
    "AAAUc3RzcwAAAAAAAAABAAAAAQAAAEhjdHRzAAAAAAAAAAcAAAABAAAIAAAAAAEAABQAAAAAAQAACAAAAAABAAAAAAAAAAEAAAQAAAAAAQAAEA"
    "AAAAACAAAEAAAAABxzdHNjAAAAAAAAAAEAAAABAAAACAAAAAEAAAA0c3RzegAAAAAAAAAAAAAACAAAAoEAAABwAAAAGAAAABcAAAANAAAAUAAA"
    "AA0AAAANAAAAFHN0Y28AAAAAAAAAAQAAA6AAAAA9dWR0YQAAADVtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABtZGlyYXBwbAAAAAAAAAAAAAAAAA"
    "hpbHN0AAAACGZyZWUAAAOfbWRhdAAAAn1liIEAAh/+1KeZY526pU/9UezYAPgOQo5w4XIRM2PcPDcgaBvzp/yKmB7kf52VlM/dYHLtc2Jn9NO5"
    "kYVBtlOTz/iU9F6dknyeSoJg8HL2VMf7hTwxzjat9BxE+eRmxBk+zbT2rZpbUMUjCFNeTn0u3KbXK+nl9LQ7EC+RkbIRxPQDCRp30hhZ+q8wy6"
    "+eHG94c1oLFSlhy2qVAa11O+wP8QQezVemWRye2+o6X5vXOZCDOrMu70OG8ceegCd61PEvN7Faon/nj2bkL/J9sfafINVzgs+EZYt8kiiR6Nwx"
    "9PtVqc4O2oQwArhHVZ2UEYlbBOiLfOwrZ3ymVE3ypb3SwNH5pWi6hpLYu8HFrBcefArb9qDfWCY+oDgvx8p3jcGPgZdwE1Vl/5oFBHFUNsS78d"
    "731Njqz0z/4yY7I97VUQq9j2zmohpvmEgmqJmVBptlz2Xvbdbd6QEeTR1awZnBnsLRzHkZmjKXslz6QFgrgAz39UhcYLHeaw/VYk57rcY11JZf"
    "9yoqt83tl0dgEgV/yvE7eE3eIz32yBPh4UsjJ9kFB75vU4GApFXr7CskAMU27EmgVedeY0U+MmmaeAGV0VK1peZywBgqDyk6z5Fni5yX7gRIOU"
    "Mb1ARWuUmZNWBa2l8NLpMhgG9dOEw8u13TnPxNx0oj7FJLdfahulcj3LMktj0qlp2EdG8/UvIu/OxvbP4SNRi0pEjAdLKcmNkokC0zzundvUjJ"
    "HQo7IxUsXEqwIFCnOhwwsat7A8U0+Uniy75X3G6LdCH6AOYkoFae4K6IEi63jn0nJ6qUQZaQ5tl+yTAASLhkgsukWivIy3Wrcp66R04EnBNWjl"
    "nlAAAAbEGaCI2If/8uodfAxnHZrZaE8A3bRO6IJO/WGV0sAJNDfc9NJrnvA5j3Qi7t8Nvreh1S4/GR9b3DLb3WPPgKfQui5A/HSZyn/ZWlFnPp"
    "7CLy81XH9HnDcwr2TvZTpBunvSosjXezRjAJSX3FQAAAABRBnhBHEO9bdPykLJebt8T9nj/odQAAABMBnhgmiG//aEKacVksZKJVVpiwAAAACQ"
    "GeGG1Ib/8ZsQAAAExBmhjpNQIC0TKYEN9dVaSRJASCMCwBhalOpIwet1UfmSYF+NRzX52WkP6vstslnKinwgWpc/FlD/rIZhny+Zxr9nb3ECsH"
    "NerAvA6hAAAACUGeIK3EN/8ZsQAAAAkBnijMkhv/GbE="
)


class Exam:
    """One study; `image` and `document` add objects to its series."""

    def __init__(self, out, name, description):
        self.out, self.name = out, name
        self.study = uid(name)
        self.entry = {
            "name": name,
            "study_instance_uid": self.study,
            "study_description": description,
            "study_date": "20260301",
            "series": [],
        }
        self.count = 0
        os.makedirs(os.path.join(out, name), exist_ok=True)

    def series(self, modality, description):
        number = len(self.entry["series"]) + 1
        self.entry["series"].append(
            {
                "series_instance_uid": uid(f"{self.name}/{number}"),
                "modality": modality,
                "series_number": number,
                "series_description": description,
                "instances": [],
            }
        )
        return self

    def object(self, sop_class, **more):
        series = self.entry["series"][-1]
        number = len(series["instances"]) + 1
        source = Dataset()
        source.SpecificCharacterSet = "ISO_IR 192"
        source.SOPClassUID = sop_class
        source.SOPInstanceUID = uid(f"{self.name}/{series['series_number']}/{number}")
        source.StudyInstanceUID = self.study
        source.SeriesInstanceUID = series["series_instance_uid"]
        source.StudyDate = source.ContentDate = self.entry["study_date"]
        source.StudyTime = source.ContentTime = "101500"
        source.Modality = series["modality"]
        source.StudyDescription = self.entry["study_description"]
        source.SeriesDescription = series["series_description"]
        source.PatientName, source.PatientID = "LECTURE^LEA", "PATIENT-LECTURE"
        source.PatientBirthDate, source.PatientSex = "19700101", "F"
        source.AccessionNumber, source.StudyID, source.ReferringPhysicianName = self.study[-8:], "1", ""
        source.SeriesNumber, source.InstanceNumber = series["series_number"], number
        for keyword, value in more.items():
            setattr(source, keyword, value)
        return source

    def write(self, source, syntax=ExplicitVRLittleEndian):
        self.count += 1
        file = f"{self.name}/{self.count}.dcm"
        source.file_meta = FileMetaDataset()
        source.file_meta.TransferSyntaxUID = UID(syntax)
        source.file_meta.MediaStorageSOPClassUID = source.SOPClassUID
        source.file_meta.MediaStorageSOPInstanceUID = source.SOPInstanceUID
        source.save_as(os.path.join(self.out, file), enforce_file_format=True)
        self.entry["series"][-1]["instances"].append(
            {
                "sop_instance_uid": source.SOPInstanceUID,
                "sop_class_uid": source.SOPClassUID,
                "transfer_syntax_uid": str(syntax),
                "instance_number": source.InstanceNumber,
                "frames": int(source.get("NumberOfFrames", 1 if "Rows" in source else 0)),
                "file": file,
            }
        )
        return source


def uid(seed):
    return str(generate_uid(prefix="2.25.", entropy_srcs=["readings", seed]))


def grey(source, pixels, bits, signed=False):
    source.SamplesPerPixel, source.PhotometricInterpretation = 1, source.get("PhotometricInterpretation", "MONOCHROME2")
    source.Rows, source.Columns = pixels.shape[-2:]
    source.BitsAllocated = 8 if bits <= 8 else 16
    source.BitsStored, source.HighBit, source.PixelRepresentation = bits, bits - 1, int(signed)
    kind = "u1" if bits <= 8 else ("<i2" if signed else "<u2")
    source.PixelData = pixels.astype(kind).tobytes()
    return source


def packed(source, pixels, bits):
    """JPEG-LS, one frame."""
    import jpeg_ls

    grey(source, pixels, bits)
    stream = bytes(jpeg_ls.encode_array(pixels.astype("u1" if bits <= 8 else "u2")))
    source.PixelData = encapsulate([stream])
    source["PixelData"].is_undefined_length = True
    return source


def placed(source, exam, place, orientation=(1, 0, 0, 0, 1, 0), spacing=0.8):
    source.FrameOfReferenceUID = uid(f"{exam.name}/frame")
    source.ImagePositionPatient, source.ImageOrientationPatient = list(place), list(orientation)
    source.PixelSpacing, source.SliceThickness = [spacing, spacing], 2
    source.RescaleSlope, source.RescaleIntercept = 1, -1024
    return source


def ramp(rows, columns, top):
    across = numpy.linspace(0, top, columns)
    return numpy.repeat(across[None, :], rows, axis=0)


def looks(out):
    """One image for each way in which values become grey levels (PS3.3 C.11.1, C.11.2)."""
    exam = Exam(out, "looks", "Contrastes").series("CT", "Fonctions VOI")
    for shape in ("LINEAR", "LINEAR_EXACT", "SIGMOID"):
        source = placed(exam.object(CT, WindowCenter=300, WindowWidth=900, VOILUTFunction=shape), exam, (0, 0, 0))
        exam.write(grey(source, ramp(256, 256, 4095), 12))
    table = Dataset()
    table.LUTDescriptor = [4096, -1024, 12]
    table.LUTExplanation = "Courbe"
    table.add_new("LUTData", "OW", (4095 * (numpy.arange(4096) / 4095) ** 2).astype("<u2").tobytes())
    table["LUTDescriptor"].VR = "SS"
    source = placed(exam.object(CT, VOILUTSequence=Sequence([table])), exam, (0, 0, 0))
    exam.write(grey(source, ramp(256, 256, 4095), 12))
    source = placed(exam.object(CT, WindowCenter=300, WindowWidth=900, PhotometricInterpretation="MONOCHROME1"), exam, (0, 0, 0))
    exam.write(grey(source, ramp(256, 256, 4095), 12))
    return exam.entry


def overlays(out):
    """A graphic of its own bytes over one image, one over the second of two frames, one in unused bits."""
    exam = Exam(out, "overlays", "Radiographie annotée").series("DX", "Calques")
    ring = numpy.zeros((200, 240), "u1")
    ring[20:40, 30:90] = 1

    def plane(source, group=0x6000):
        source.add_new((group, 0x0010), "US", ring.shape[0])
        source.add_new((group, 0x0011), "US", ring.shape[1])
        source.add_new((group, 0x0022), "LO", "Annotation")
        source.add_new((group, 0x0040), "CS", "G")
        source.add_new((group, 0x0050), "SS", [11, 21])
        source.add_new((group, 0x0100), "US", 1)
        source.add_new((group, 0x0102), "US", 0)
        source.add_new((group, 0x3000), "OW", pack_bits(ring.ravel()))
        return source

    dark = numpy.full((256, 320), 100)
    source = plane(exam.object(DX, WindowCenter=2048, WindowWidth=4096, ImagerPixelSpacing=[0.2, 0.2], PatientOrientation=["L", "F"]))
    exam.write(grey(source, dark, 12))

    embedded = dark.astype("u2")
    embedded[100:120, 50:110] |= 1 << 12
    source = exam.object(DX, WindowCenter=2048, WindowWidth=4096, ImagerPixelSpacing=[0.2, 0.2], PatientOrientation=["L", "F"])
    source.add_new((0x6002, 0x0010), "US", 256)
    source.add_new((0x6002, 0x0011), "US", 320)
    source.add_new((0x6002, 0x0040), "CS", "G")
    source.add_new((0x6002, 0x0050), "SS", [1, 1])
    source.add_new((0x6002, 0x0100), "US", 16)
    source.add_new((0x6002, 0x0102), "US", 12)
    exam.write(grey(source, embedded, 12))
    return exam.entry


def mammography(out):
    """Four views, two of them stored the other way round than they are hung."""
    exam = Exam(out, "mammography", "Mammographie bilatérale").series("MG", "Quatre incidences")
    rows, columns = 400, 300
    down, across = numpy.mgrid[0:rows, 0:columns]
    # The chest wall is at the left edge of the array.
    breast = numpy.where(((down - rows / 2) / (rows / 2.2)) ** 2 + (across / (columns * 0.8)) ** 2 < 1, 2500, 0)
    for laterality, view, wall in (("L", "CC", "left"), ("R", "MLO", "left"), ("L", "MLO", "right"), ("R", "CC", "right")):
        source = exam.object(MG, WindowCenter=2048, WindowWidth=4096, ImageLaterality=laterality, ViewPosition=view)
        # Rows run away from the wall: to the front; towards it: to the back.
        source.PatientOrientation = ["A" if wall == "left" else "P", ("R" if laterality == "L" else "L") if view == "CC" else "F"]
        source.ImagerPixelSpacing, source.BodyPartExamined = [0.1, 0.1], "BREAST"
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator = ("R-10242" if view == "CC" else "R-10226"), "SNM3"
        code.CodeMeaning = "cranio-caudal" if view == "CC" else "medio-lateral oblique"
        source.ViewCodeSequence = Sequence([code])
        exam.write(grey(source, breast if wall == "left" else breast[:, ::-1], 12))
    return exam.entry


def radiograph(out):
    """Five megapixels, and the distance at the detector only."""
    exam = Exam(out, "radiograph", "Radiographie de 5 mégapixels").series("DX", "Face")
    source = exam.object(DX, WindowCenter=2048, WindowWidth=4096, PatientOrientation=["L", "F"], ImagerPixelSpacing=[0.15, 0.15])
    exam.write(packed(source, ramp(2560, 2048, 4095).astype("u2"), 12), JPEGLSLossless)
    return exam.entry


def cine(out):
    """Ultrasound with its rate and its scale, and one image without any scale."""
    exam = Exam(out, "cine", "Échographie animée").series("US", "Boucle")
    frames = numpy.zeros((8, 120, 160, 3), "u1")
    for at in range(8):
        frames[at, 20:100, 10 + 15 * at : 30 + 15 * at] = 200
    source = exam.object(US_CINE, NumberOfFrames=8, RecommendedDisplayFrameRate=25, FrameTime=40)
    source.FrameIncrementPointer = 0x00181063
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0, region.RegionLocationMaxX1, region.RegionLocationMaxY1 = 0, 0, 159, 119
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = 0.05
    source.SequenceOfUltrasoundRegions = Sequence([region])
    source.SamplesPerPixel, source.PhotometricInterpretation, source.PlanarConfiguration = 3, "RGB", 0
    source.Rows, source.Columns = 120, 160
    source.BitsAllocated = source.BitsStored = 8
    source.HighBit, source.PixelRepresentation = 7, 0
    source.PixelData = frames.tobytes()
    exam.write(source)
    exam.series("US", "Sans échelle")
    exam.write(grey(exam.object("1.2.840.10008.5.1.4.1.1.6.1"), ramp(120, 160, 255), 8))
    return exam.entry


def video(out):
    """A film of an endoscope in the container that browsers know."""
    exam = Exam(out, "video", "Endoscopie").series("ES", "Film")
    source = exam.object("1.2.840.10008.5.1.4.1.1.77.1.1.1", NumberOfFrames=8, CineRate=10, FrameTime=100)
    source.FrameIncrementPointer = 0x00181063
    source.SamplesPerPixel, source.PhotometricInterpretation, source.PlanarConfiguration = 3, "YBR_PARTIAL_420", 0
    source.Rows, source.Columns = 96, 128
    source.BitsAllocated = source.BitsStored = 8
    source.HighBit, source.PixelRepresentation = 7, 0
    source.LossyImageCompression, source.LossyImageCompressionMethod = "01", "ISO_14496_10"
    source.PixelData = encapsulate([CLIP], has_bot=False)
    source["PixelData"].is_undefined_length = True
    exam.write(source, "1.2.840.10008.1.2.4.102")
    return exam.entry


def crossed(out):
    """An axial and a sagittal series of one frame of reference; one axial image has a bright spot."""
    exam = Exam(out, "crossed", "Scanner en deux plans").series("CT", "Axial")
    for at in range(12):
        pixels = numpy.full((96, 96), 1024)
        if at == 6:
            pixels[40:56, 40:56] = 3000
        source = placed(exam.object(CT, WindowCenter=500, WindowWidth=3000), exam, (-38, -38, 2 * at))
        exam.write(grey(source, pixels, 12))
    exam.series("CT", "Sagittal")
    for at in range(5):
        source = placed(exam.object(CT, WindowCenter=500, WindowWidth=3000), exam, (-20 + 10 * at, -38, 40), (0, 1, 0, 0, 0, -1))
        exam.write(grey(source, numpy.full((96, 96), 1024 + 100 * at), 12))
    exam.series("KO", "Images clés")
    document = exam.object(KO)
    document.ValueType, document.ContinuityOfContent = "CONTAINER", "SEPARATE"
    document.ConceptNameCodeSequence = Sequence([code("113000", "DCM", "Of Interest")])
    axial = exam.entry["series"][0]
    chosen = [axial["instances"][at]["sop_instance_uid"] for at in (2, 6)]
    document.ContentSequence = Sequence([reference(instance) for instance in chosen])
    study, series = Dataset(), Dataset()
    series.SeriesInstanceUID = axial["series_instance_uid"]
    series.ReferencedSOPSequence = Sequence([sop(instance) for instance in chosen])
    study.StudyInstanceUID, study.ReferencedSeriesSequence = exam.study, Sequence([series])
    document.CurrentRequestedProcedureEvidenceSequence = Sequence([study])
    exam.write(document)
    return exam.entry


def uneven(out):
    """Series that would be drawn distorted in three planes, and one that is as even as two decimals allow."""
    exam = Exam(out, "uneven", "Coupes irrégulières")

    def series(description, places, scale=lambda at: 0.8):
        exam.series("CT", description)
        for at, place in enumerate(places):
            source = placed(exam.object(CT, WindowCenter=500, WindowWidth=3000), exam, place, spacing=scale(at))
            exam.write(grey(source, ramp(64, 64, 4095), 12))

    series("Pas irrégulier", [(-25, -25, place) for place in (0, 1, 2, 10, 11)])
    # Twenty degrees: every image lies lower than the one before, in its own plane.
    series("Statif incliné", [(-25, -25 + 0.73 * at, 2 * at) for at in range(5)])
    series("Échelles mêlées", [(-25, -25, 2 * at) for at in range(5)], lambda at: 0.8 if at < 3 else 0.7)
    series("Places arrondies", [(-25, -25, round(at * 2 / 3, 2)) for at in range(5)])
    return exam.entry


def hostile(out):
    """Markup wherever a device writes text."""
    exam = Exam(out, "hostile", ATTACK[:60]).series("CT", ATTACK[:60])
    source = placed(exam.object(CT, WindowCenter=500, WindowWidth=3000, PatientName=ATTACK[:60]), exam, (0, 0, 0))
    source.WindowCenter, source.WindowWidth = [500, 40], [3000, 400]
    source.WindowCenterWidthExplanation = ["<b>1</b>", '<img src=x onerror=taken=1>']
    exam.write(grey(source, ramp(64, 64, 4095), 12))
    exam.series("SR", ATTACK[:60])
    document = exam.object(SR, PatientName=ATTACK[:60])
    document.ValueType, document.ContinuityOfContent = "CONTAINER", "SEPARATE"
    document.ConceptNameCodeSequence = Sequence([code("18748-4", "LN", ATTACK[:60])])
    line = Dataset()
    line.RelationshipType, line.ValueType, line.TextValue = "CONTAINS", "TEXT", ATTACK + "javascript:window.taken=1"
    line.ConceptNameCodeSequence = Sequence([code("121071", "DCM", ATTACK[:60])])
    document.ContentSequence = Sequence([line])
    document.VerificationFlag, document.CompletionFlag = "UNVERIFIED", "COMPLETE"
    exam.write(document)
    exam.series("DOC", ATTACK[:60])
    document = exam.object(PDF, DocumentTitle=ATTACK, MIMETypeOfEncapsulatedDocument="application/pdf", BurnedInAnnotation="YES")
    document.ConceptNameCodeSequence = Sequence([])
    document.EncapsulatedDocument = pdf("/OpenAction << /S /JavaScript /JS (app.alert\\(1\\); this.taken = 1) >>", "Texte du document")
    exam.write(document)
    return exam.entry


def long(out, slices):
    """A scanner with many images, in JPEG-LS; ten pictures take turns."""
    exam = Exam(out, "long", f"Scanner de {slices} coupes").series("CT", "Thorax-abdomen-pelvis")
    chance = numpy.random.default_rng(7)
    down, across = numpy.mgrid[0:512, 0:512]
    for turn in range(10):
        body = numpy.where((down - 256) ** 2 + (across - 256) ** 2 < (150 + 5 * turn) ** 2, 1064, 24)
        exam_source = packed(exam.object(CT), body + chance.integers(0, 16, body.shape), 12)
        PACKED.append(exam_source.PixelData)
    for at in range(slices):
        source = placed(exam.object(CT, WindowCenter=40, WindowWidth=400), exam, (-200, -200, 0.5 * at))
        grey(source, down, 12)
        source.PixelData = PACKED[at % 10]
        source["PixelData"].is_undefined_length = True
        exam.write(source, JPEGLSLossless)
    return exam.entry


PACKED = []


def code(value, scheme, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def sop(instance):
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CT, instance
    return item


def reference(instance):
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "IMAGE"
    item.ReferencedSOPSequence = Sequence([sop(instance)])
    return item


def pdf(catalog, text):
    """A PDF of one page."""
    stream = f"BT /F1 24 Tf 50 700 Td ({text}) Tj ET"
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {catalog} >>",
        "<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    file, places = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        places.append(len(file))
        file += f"{number} 0 obj\n{body}\nendobj\n"
    table = len(file)
    file += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n" + "".join(f"{place:010} 00000 n \n" for place in places)
    file += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{table}\n%%EOF\n"
    return file.encode("latin1") + b" " * (len(file) % 2)


def main():
    with open(sys.argv[1]) as asked:
        asked = json.load(asked)
    out = asked["out"]
    exams = [make(out) for make in (looks, overlays, mammography, radiograph, cine, video, crossed, uneven, hostile)]
    exams.append(long(out, asked["slices"]))
    json.dump(exams, sys.stdout)


main()
