"""Asks a DICOMweb service with dicomweb-client and prints what came as JSON.

Arguments: one JSON object with `url`, `study`, `series` and `instance`; for searches `patient`; for
frames and pictures `frames` and `media_type`, what the frames are stored as; for a service behind
mutual TLS `ca`, `certificate`, `key`, `host` and `address`, where `host` is found at `address`.
"""

import hashlib
import json
import socket
import sys

from dicomweb_client.api import DICOMwebClient
from dicomweb_client.session_utils import create_session

ANY_SYNTAX = (("application/dicom", "*"),)


def pixels(data_set):
    """SHA-256 of native pixels, or of all fragments without item headers and offset table."""
    if "PixelData" not in data_set:
        return None
    data = data_set.PixelData
    digest = hashlib.sha256()
    if not data_set.file_meta.TransferSyntaxUID.is_encapsulated:
        digest.update(data)
        return digest.hexdigest()
    at, first = 0, True
    while at + 8 <= len(data) and data[at : at + 4] == b"\xfe\xff\x00\xe0":
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if not first:
            digest.update(data[at + 8 : at + 8 + length])
        first = False
        at += 8 + length
    return digest.hexdigest()


def described(data_sets):
    return {
        str(data_set.SOPInstanceUID): {
            "syntax": str(data_set.file_meta.TransferSyntaxUID),
            "pixels": pixels(data_set),
            "name": str(data_set.PatientName),
        }
        for data_set in data_sets
    }


def digests(parts):
    return [hashlib.sha256(part).hexdigest() for part in parts]


def uids(objects, tag):
    return sorted(found[tag]["Value"][0] for found in objects)


def main():
    asked = json.loads(sys.argv[1])
    session = create_session()
    # No proxy and no certificates of the machine's settings.
    session.trust_env = False
    if "ca" in asked:
        resolve = socket.getaddrinfo
        socket.getaddrinfo = lambda host, *rest, **more: resolve(
            asked["address"] if host == asked["host"] else host, *rest, **more
        )
        # add_certs_to_session of the client takes certificate and key in one file only.
        session.verify = asked["ca"]
        session.cert = (asked["certificate"], asked["key"])
    client = DICOMwebClient(asked["url"], session=session)
    study, series, instance = asked["study"], asked["series"], asked["instance"]
    answer = {
        "study": described(client.retrieve_study(study, media_types=ANY_SYNTAX)),
        "study_iterated": described(
            client.iter_study(study, media_types=ANY_SYNTAX)
        ),
        "series": described(client.retrieve_series(study, series, media_types=ANY_SYNTAX)),
        "instance": described(
            [client.retrieve_instance(study, series, instance, media_types=ANY_SYNTAX)]
        ),
        "study_metadata": uids(client.retrieve_study_metadata(study), "00080018"),
        "series_metadata": uids(client.retrieve_series_metadata(study, series), "00080018"),
        "instance_metadata": client.retrieve_instance_metadata(study, series, instance)[
            "00080018"
        ]["Value"],
    }
    if asked.get("patient"):
        answer.update(found(client, study, series, asked["patient"]))
    if asked.get("frames"):
        answer.update(seen(client, (study, series, instance), asked))
    json.dump(answer, sys.stdout)


def found(client, study, series, patient):
    """What searches find."""
    one = {"search_filters": {"PatientID": patient}}
    page = client.search_for_studies(limit=3, offset=1, fields=["StudyDescription"])
    return {
        "found_studies": uids(client.search_for_studies(**one), "0020000D"),
        "found_fuzzy": uids(
            client.search_for_studies(fuzzymatching=True, **one), "0020000D"
        ),
        "found_page": [sorted(study) for study in page],
        "found_by_pages": uids(
            client.search_for_studies(limit=7, get_remaining=True), "0020000D"
        ),
        "found_series": uids(client.search_for_series(study), "0020000E"),
        "found_instances": uids(
            client.search_for_instances(study, series), "00080018"
        ),
    }


def seen(client, instance, asked):
    """Digests of frames, and how pictures start."""
    frames = asked["frames"]
    stored = (tuple(asked["media_type"]),)
    octets = ("application/octet-stream",)
    pixels = client.retrieve_instance_metadata(*instance)["7FE00010"]["BulkDataURI"]
    return {
        "bulk": digests(client.retrieve_bulkdata(pixels, media_types=octets)),
        "bulk_any": digests(client.iter_bulkdata(pixels)),
        "frames_stored": digests(
            client.retrieve_instance_frames(*instance, frames, media_types=stored)
        ),
        "frames_any": digests(client.retrieve_instance_frames(*instance, frames)),
        "frames_octets": digests(
            client.iter_instance_frames(*instance, frames, media_types=octets)
        ),
        "rendered_head": client.retrieve_instance_rendered(
            *instance, media_types=("image/jpeg",)
        )[:3].hex(),
        "rendered_frame_head": client.retrieve_instance_frames_rendered(
            *instance, frames[:1], media_types=("image/png",)
        )[:3].hex(),
    }


main()
