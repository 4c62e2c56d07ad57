//! Writes the seeds of every target into `corpus/<target>/`: small, and of every form that the
//! parsers know.

use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use dicom_core::{Tag, VR};
use drimbox::archive::dimse::command::Command;
use drimbox::dicom::part10::file_meta;
use drimbox::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};
use drimbox::dicom::write::{put_element, put_item};

#[allow(dead_code)]
mod psc;

fn main() -> io::Result<()> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let explicit = explicit();
    let implicit = implicit();
    let fragments: &[u8] = b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\0\0\0\0\
        \xfe\xff\x00\xe0\x02\0\0\0\x01\x02\xfe\xff\xdd\xe0\0\0\0\0";
    let big: &[u8] = b"\x00\x28\x01\x03US\x00\x02\x00\x01\x00\x28\x01\x06SS\x00\x02\xff\xfe\
        \x7f\xe0\x00\x10OW\0\0\x00\x00\x00\x04\x01\x02\x03\x04";
    // One stored block of RFC 1951 holding one element.
    let deflated: &[u8] = b"\x01\x0a\x00\xf5\xff\x08\x00\x60\x00CS\x02\x00CT";
    for (name, choice, bytes) in [
        ("implicit", 0 | 3 << 2, implicit.as_slice()),
        ("explicit", 1 | 7 << 2, &explicit),
        ("fragments", 1, fragments),
        ("big", 2 | 1 << 2, big),
        ("deflated", 3, deflated),
    ] {
        write(&corpus, "dataset", name, &[&[choice], bytes].concat())?;
    }
    write(&corpus, "edit", "explicit", &explicit)?;
    write(&corpus, "edit", "empty", b"")?;
    write(&corpus, "crl", "two-entries", CRL)?;
    for (name, text) in [("authority", OCSP_DIRECT), ("delegated", OCSP_DELEGATED)] {
        let answer = STANDARD.decode(text).map_err(io::Error::other)?;
        write(&corpus, "ocsp", name, &answer)?;
    }
    write(&corpus, "ocsp", "try-later", &[0x30, 3, 0x0a, 1, 3])?;
    write(&corpus, "whitelist", "signed", WHITE_LIST.as_bytes())?;
    write(&corpus, "whitelist", "name", "CN=db3.test.fr,OU=3187,ST=Côte-d'Or (21),C=FR".as_bytes())?;
    let event = br#"{"at":"2026-11-21T09:30:00.125Z","kind":"request-ended","actor":{"address":"192.0.2.1","peer":{"host":"db.a.example"}},"object":{"study":"1.2.3"},"outcome":{"ending":"aborted","status":200,"bytes":12,"milliseconds":3}}"#;
    write(&corpus, "audit", "event", event)?;

    let echo = Command::echo(1).encode();
    write(&corpus, "pdu", "command", &[&[4], echo.as_slice()].concat())?;
    let length = u32::try_from(echo.len() + 2).unwrap_or(0).to_be_bytes();
    write(
        &corpus,
        "pdu",
        "data",
        &[&[4], &length[..], &[1, 3], &echo].concat(),
    )?;
    write(&corpus, "pdu", "release", &[5, 0, 0, 0, 0])?;
    write(&corpus, "pdu", "rejection", &[3, 0, 1, 1, 3])?;
    let titles = b"\0\x01\0\0CALLED          CALLING         ";
    let items = b"\x10\0\0\x151.2.840.10008.3.1.1.1\x20\0\0\x2e\x01\0\0\0\
        \x30\0\0\x111.2.840.10008.1.1\x40\0\0\x111.2.840.10008.1.2\
        \x50\0\0\x08\x51\0\0\x04\0\0\x40\0";
    let request = [&[1], &titles[..], &[0; 32], &items[..]].concat();
    write(&corpus, "pdu", "association", &request)?;

    let claims = psc::claims(psc::NOW);
    write(&corpus, "jwt", "claims", &[&[0], claims.as_slice()].concat())?;
    let token = psc::signed(&claims);
    write(&corpus, "jwt", "token", &[&[1], token.as_bytes()].concat())?;
    write(&corpus, "introspection", "active", &claims)?;
    write(&corpus, "introspection", "inactive", br#"{"active":false}"#)?;
    let user: &[u8] = br#"{"sub":"f:x:899700218896","SubjectNameID":"899700218896","SubjectRole":["10^1.2"],"otherIds":[{"identifiant":"899700218896","origine":"RPPS","qualite":1}],"SubjectRefPro":{"codeCivilite":"M","exercices":[{"codeProfession":"10","codeSavoirFaire":"SM44","activities":[{"codeModeExercice":"S","numeroFinessSite":"750000018"},{"ancienIdentifiantDeLaStructure":"1750000018"}]}]}}"#;
    write(&corpus, "userinfo", "radiologist", user)?;
    let complete = include_bytes!("../../psc-auth/tests/data/userinfo.json");
    write(&corpus, "userinfo", "complete", complete)?;
    let query = b"state=s&code=c&iss=https%3A%2F%2Fpsc.example%2Frealm";
    let whole = [&psc::discovery()[..], &psc::keys(), query].join(&0);
    write(&corpus, "discovery", "whole", &whole)?;

    write(
        &corpus,
        "json",
        "explicit",
        &[&[0x18], explicit.as_slice()].concat(),
    )?;
    write(
        &corpus,
        "json",
        "utf8",
        &[&[0], explicit.as_slice()].concat(),
    )?;
    let found = concat!(
        "\x05[{\"00080005\":{\"vr\":\"CS\",\"Value\":[\"ISO_IR 192\"]},",
        "\"00100010\":{\"vr\":\"PN\",\"Value\":[{\"Alphabetic\":\"ESSAI^AMELIE\"}]},",
        "\"00400275\":{\"vr\":\"SQ\",\"Value\":[{\"00400009\":{\"vr\":\"SH\",\"Value\":[\"S\"]}}]},",
        "\"00280010\":{\"vr\":\"US\",\"Value\":[512]},\"00280030\":{\"vr\":\"DS\",\"Value\":[0.5,\"0.5\"]},",
        "\"7FE00010\":{\"vr\":\"OW\",\"InlineBinary\":\"AAE=\"}},{}]"
    );
    write(&corpus, "json_read", "matches", found.as_bytes())?;
    write(
        &corpus,
        "multipart",
        "parts",
        b"https://h/1ABCDEFGHIJ\0x\r\ny: zABCDEFG\0",
    )?;
    for (name, instances) in [
        ("one", &["1.2.3.1.1"][..]),
        ("two", &["1.2.3.1.1", "1.2.3.1.2"]),
        ("stranger", &["1.2.3.9"]),
    ] {
        write(&corpus, "peer_multipart", name, &series_answer(instances))?;
    }
    write(
        &corpus,
        "kos",
        "manifest",
        &[&[1], manifest().as_slice()].concat(),
    )?;
    for (name, choices, pixels) in frames() {
        write(&corpus, "frames", name, &[&choices[..], &pixels].concat())?;
    }

    for (target, name, text) in [
        (
            "retrieve_url",
            "series",
            "https://db1.example.org:8443/rs/studies/1.2.3/series/1.2.3.4",
        ),
        (
            "retrieve_url",
            "forged",
            "https://u:p@db1.example.org\\@10.0.0.1/../studies/1.2.3?x#y",
        ),
        (
            "path",
            "metadata",
            "/studies/1.2.3/series/1.2.4/instances/1.2.5/metadata",
        ),
        (
            "path",
            "frames",
            "/studies/1.2.3/series/1.2.4/instances/1.2.5/frames/1,3",
        ),
        (
            "path",
            "rendered",
            "/studies/1.2.3/series/1.2.4/instances/1.2.5/frames/1/rendered",
        ),
        (
            "path",
            "bulk",
            "/studies/1.2.3/series/1.2.4/instances/1.2.5/bulkdata/00400555/1/0040A160",
        ),
        ("path", "search", "/studies/1.2.3/instances"),
        (
            "query",
            "keys",
            "PatientName=A*&StudyDate=20260101-&includefield=00081030&limit=5&offset=2",
        ),
        (
            "query",
            "sequence",
            "RequestAttributesSequence.ScheduledProcedureStepID=1&00100020=*",
        ),
        (
            "query",
            "lists",
            "StudyInstanceUID=1.2%5C1.3,1.4&StudyTime=10-11&fuzzymatching=true&includefield=all",
        ),
        (
            "accept",
            "weights",
            "multipart/related; type=\"application/dicom\"; transfer-syntax=1.2.840.10008.1.2.4.80;q=0.9, */*;q=0.1",
        ),
        (
            "accept",
            "lines",
            "transfer-syntax=1.2.840.10008.1.2.1;q=0.5;boundary=**,\nimage/jpeg;q=.2",
        ),
        (
            "accept",
            "viewer",
            "application/dicom+json, multipart/related; type=application/octet-stream; transfer-syntax=*",
        ),
    ] {
        write(&corpus, target, name, text.as_bytes())?;
    }

    for (name, set, text) in [
        ("latin", "ISO_IR 100", &b"Buc^J\xe9r\xf4me"[..]),
        (
            "kanji",
            "\\ISO 2022 IR 87",
            b"Yamada=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B",
        ),
        (
            "katakana",
            "ISO 2022 IR 13\\ISO 2022 IR 159",
            b"\xd4\xcf\x1b$(D\x30\x21\x1b(J",
        ),
        (
            "hangul",
            "\\ISO 2022 IR 149",
            b"Hong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7",
        ),
        ("hanzi", "\\ISO 2022 IR 58", b"Zhang=\x1b$)A\xd5\xc5"),
        ("utf8", "ISO_IR 192", "Wang=王^小东".as_bytes()),
        ("gb18030", "GB18030", b"Wang=\xcd\xf5^\xd0\xa1\xb6\xab"),
        (
            "mixed",
            "ISO 2022 IR 100\\ISO 2022 IR 144\\ISO 2022 IR 126",
            b"\xe9\x1b-L\xbb\\\x1b-F\xc4",
        ),
    ] {
        write(
            &corpus,
            "charset",
            name,
            &[set.as_bytes(), b"\0", text].concat(),
        )?;
    }
    Ok(())
}

fn write(corpus: &Path, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let folder = corpus.join(target);
    std::fs::create_dir_all(&folder)?;
    std::fs::write(folder.join(name), bytes)
}

/// Choices and pixels for the target of that name: native, 1 bit, fragments with and without
/// offset table, RLE.
fn frames() -> Vec<(&'static str, [u8; 8], Vec<u8>)> {
    let item = |bytes: &[u8]| {
        let mut out = b"\xfe\xff\x00\xe0".to_vec();
        out.extend((bytes.len() as u32).to_le_bytes());
        out.extend_from_slice(bytes);
        out
    };
    let end = b"\xfe\xff\xdd\xe0\0\0\0\0";
    // One segment of RLE (PS3.5 §G.5): a run of four.
    let mut rle = vec![1, 0, 0, 0, 64, 0, 0, 0];
    rle.resize(64, 0);
    rle.extend([0xFD, 7]);
    let offsets = [0_u32, rle.len() as u32 + 8].map(u32::to_le_bytes).concat();
    let rle = item(&rle);
    let fragments = |table: &[u8]| [&item(table)[..], &rle, &rle, &end[..]].concat();
    vec![
        ("native", [0, 1, 2, 0, 2, 2, 2, 0], vec![1; 8]),
        ("words", [0, 2, 0, 0, 1, 2, 2, 0x84], vec![1; 8]),
        ("bits", [0, 0, 2, 0, 3, 3, 3, 0], vec![0xA5; 4]),
        ("planes", [0, 1, 3, 1, 1, 2, 2, 0], vec![1; 12]),
        ("rle", [1, 1, 2, 0, 2, 2, 2, 0], fragments(&offsets)),
        ("no-table", [1, 1, 2, 0, 2, 2, 2, 0], fragments(b"")),
    ]
}

/// A byte, then an answer with these instances of one series.
fn series_answer(instances: &[&str]) -> Vec<u8> {
    let class = SopClassUid::parse("1.2.840.10008.5.1.4.1.1.2").expect("a UID");
    let syntax = TransferSyntaxUid::parse("1.2.840.10008.1.2.1").expect("a UID");
    let mut out = vec![7];
    for uid in instances {
        let instance = InstanceUid::parse(uid).expect("a UID");
        out.extend_from_slice(b"--b\r\nContent-Type: application/dicom\r\n\r\n");
        out.extend(file_meta(&class, &instance, &syntax));
        put_element(&mut out, Tag(0x0008, 0x0018), VR::UI, uid.as_bytes());
        put_element(&mut out, Tag(0x0020, 0x000D), VR::UI, b"1.2.3");
        put_element(&mut out, Tag(0x0020, 0x000E), VR::UI, b"1.2.3.1");
        put_element(&mut out, Tag(0x7FE0, 0x0010), VR::OW, &[1, 2, 3, 4]);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"--b--\r\n");
    out
}

/// A manifest of one series and one instance.
fn manifest() -> Vec<u8> {
    let sequence = |tag, elements: &[u8]| {
        let mut item = Vec::new();
        put_item(&mut item, elements);
        let mut out = Vec::new();
        put_element(&mut out, tag, VR::SQ, &item);
        out
    };
    let mut sop = Vec::new();
    put_element(
        &mut sop,
        Tag(0x0008, 0x1150),
        VR::UI,
        b"1.2.840.10008.5.1.4.1.1.2",
    );
    put_element(&mut sop, Tag(0x0008, 0x1155), VR::UI, b"1.2.3.1.1");
    let mut series = Vec::new();
    put_element(
        &mut series,
        Tag(0x0008, 0x1190),
        VR::UR,
        b"https://db1.example.org/studies/1.2.3/series/1.2.3.1",
    );
    series.extend(sequence(Tag(0x0008, 0x1199), &sop));
    put_element(&mut series, Tag(0x0020, 0x000E), VR::UI, b"1.2.3.1");
    let mut study = sequence(Tag(0x0008, 0x1115), &series);
    put_element(&mut study, Tag(0x0020, 0x000D), VR::UI, b"1.2.3");
    let mut code = Vec::new();
    put_element(&mut code, Tag(0x0008, 0x0100), VR::SH, b"113012");
    let mut text = sequence(Tag(0x0040, 0xA043), &code);
    put_element(
        &mut text,
        Tag(0x0040, 0xA160),
        VR::UT,
        b"1.2.3.1 : CT @ : x",
    );
    let mut out = Vec::new();
    put_element(
        &mut out,
        Tag(0x0008, 0x0016),
        VR::UI,
        b"1.2.840.10008.5.1.4.1.1.88.59",
    );
    put_element(&mut out, Tag(0x0008, 0x0018), VR::UI, b"1.2.3.7");
    put_element(&mut out, Tag(0x0020, 0x000D), VR::UI, b"1.2.3");
    out.extend(sequence(Tag(0x0040, 0xA375), &study));
    out.extend(sequence(Tag(0x0040, 0xA730), &text));
    out
}

fn explicit() -> Vec<u8> {
    let mut item = Vec::new();
    put_element(&mut item, Tag(0x0010, 0x0020), VR::LO, b"OTHER");
    let mut items = Vec::new();
    put_item(&mut items, &item);
    let mut out = Vec::new();
    put_element(&mut out, Tag(0x0008, 0x0005), VR::CS, b"ISO_IR 100");
    put_element(&mut out, Tag(0x0008, 0x0018), VR::UI, b"1.2.3.4");
    put_element(&mut out, Tag(0x0009, 0x0010), VR::LO, b"MAKER");
    put_element(&mut out, Tag(0x0009, 0x1001), VR::UN, b"\x01\x02");
    put_element(&mut out, Tag(0x0010, 0x0010), VR::PN, b"Buc^J\xe9r\xf4me");
    put_element(&mut out, Tag(0x0010, 0x1002), VR::SQ, &items);
    put_element(&mut out, Tag(0x0018, 0x0050), VR::DS, b"2.50\\+.5\\x");
    put_element(
        &mut out,
        Tag(0x0018, 0x9087),
        VR::FD,
        &f64::NAN.to_le_bytes(),
    );
    put_element(&mut out, Tag(0x0028, 0x0103), VR::US, &[1, 0]);
    put_element(&mut out, Tag(0x7FE0, 0x0010), VR::OW, &[1, 2, 3, 4]);
    out
}

fn implicit() -> Vec<u8> {
    let mut out = Vec::new();
    let mut put = |tag: [u8; 4], value: &[u8]| {
        out.extend_from_slice(&tag);
        out.extend((value.len() as u32).to_le_bytes());
        out.extend_from_slice(value);
    };
    put([0x08, 0, 0x16, 0], b"1.2.3\0");
    // A sequence of one item that holds one element.
    put(
        [0x08, 0, 0x40, 0x11],
        b"\xfe\xff\x00\xe0\x0c\0\0\0\x08\x00\x00\x01\x04\0\0\0CODE",
    );
    put([0x28, 0, 0x03, 0x01], &[0, 0]);
    put([0x28, 0, 0x06, 0x01], &[0xFF, 0xFF]);
    put([0xE0, 0x7F, 0x10, 0], &[1, 2, 3, 4]);
    // The same with undefined lengths, in a private element.
    out.extend_from_slice(b"\xe1\x7f\x02\x10\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff");
    out.extend_from_slice(b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0");
    out
}

/// Two revoked certificates, one with a reason; signed by a key that is not kept.
const CRL: &[u8] = b"\x30\x82\x01\x1b\x30\x81\xc3\x02\x01\x01\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02\x30\x29\
        \x31\x0b\x30\x09\x06\x03\x55\x04\x06\x13\x02\x46\x52\x31\x0d\x30\x0b\x06\x03\x55\x04\x0a\x0c\x04\
        \x54\x65\x73\x74\x31\x0b\x30\x09\x06\x03\x55\x04\x03\x0c\x02\x41\x43\x17\x0d\x32\x36\x31\x31\x32\
        \x31\x31\x32\x30\x35\x31\x31\x5a\x17\x0d\x32\x36\x31\x31\x32\x37\x31\x32\x30\x35\x31\x31\x5a\x30\
        \x38\x30\x13\x02\x02\x12\x34\x17\x0d\x32\x36\x30\x31\x30\x31\x30\x30\x30\x30\x30\x30\x5a\x30\x21\
        \x02\x02\x12\x35\x17\x0d\x32\x36\x30\x31\x30\x31\x30\x30\x30\x30\x30\x30\x5a\x30\x0c\x30\x0a\x06\
        \x03\x55\x1d\x15\x04\x03\x0a\x01\x01\xa0\x2f\x30\x2d\x30\x1f\x06\x03\x55\x1d\x23\x04\x18\x30\x16\
        \x80\x14\x6c\x1a\x6c\xbe\x08\xd9\xaf\xa6\xd4\x7f\x19\xa4\x42\xbc\xbc\x16\x83\xfa\xd1\x51\x30\x0a\
        \x06\x03\x55\x1d\x14\x04\x03\x02\x01\x0a\x30\x0a\x06\x08\x2a\x86\x48\xce\x3d\x04\x03\x02\x03\x47\
        \x00\x30\x44\x02\x20\x74\x84\x93\x67\x15\x19\xef\x0f\x75\xe8\x93\xbb\x85\x75\x81\xc1\x80\x89\x7c\
        \x46\x2f\x45\x2c\xd9\x5b\x1d\xe6\x39\x10\xea\xa0\xcc\x02\x20\x70\x19\xef\xe6\xc3\x83\x93\xa4\xac\
        \xa4\x0c\xee\xe0\x8d\xf6\xd8\x9d\xff\x5b\xf0\x03\x6c\x3b\xdb\x72\xeb\x61\xf7\x4d\x45\x0f\x41";

/// « revoked » of one certificate, signed by its authority without more; by a key that is not kept.
const OCSP_DIRECT: &str = "MIIBLQoBAKCCASYwggEiBgkrBgEFBQcwAQEEggETMIIBDzCBtqErMCkxCzAJBgNVBAYTAkZSMQ0wCwYDVQQKDARUZXN0MQswCQYD\
    VQQDDAJBQxgPMjAyNjExMjExODQwNTRaMHYwdDA7MAkGBSsOAwIaBQAEFHcOw9FDsm1oaljs8mN16Bonubf5BBTAvNgXbvnQiPjx\
    6Ltt1JwpwczjVwICEjShERgPMjAyNjEwMDEwMDAwMDBaGA8yMDI2MTEyMTE4NDA1NFqgERgPMjAyNjExMjExOTQwNTRaMAoGCCqG\
    SM49BAMCA0gAMEUCIHtk7BGMJFix7RAsIl0cjIrzQrPhMHhLmC+Av/J8ppXXAiEAhYj7M0PNq+7Ex+jadcc2jFjFBNjcd51mq+Ao\
    a5BkDMM=";

/// Revoked, good and unknown, signed by a responder whose certificate is in it.
const OCSP_DELEGATED: &str = "MIIDZQoBAKCCA14wggNaBgkrBgEFBQcwAQEEggNLMIIDRzCCAWWhDjAMMQowCAYDVQQDDAFSGA8yMDI2MTEyMTE4NDA1NFowggFA\
    MHQwOzAJBgUrDgMCGgUABBR3DsPRQ7JtaGpY7PJjdegaJ7m3+QQUwLzYF2750Ij48ei7bdScKcHM41cCAhI0oREYDzIwMjYxMDAx\
    MDAwMDAwWhgPMjAyNjExMjExODQwNTRaoBEYDzIwMjYxMTIxMTk0MDU0WjBjMDswCQYFKw4DAhoFAAQUdw7D0UOybWhqWOzyY3Xo\
    Gie5t/kEFMC82Bdu+dCI+PHou23UnCnBzONXAgISNYAAGA8yMDI2MTEyMTE4NDA1NFqgERgPMjAyNjExMjExOTQwNTRaMGMwOzAJ\
    BgUrDgMCGgUABBR3DsPRQ7JtaGpY7PJjdegaJ7m3+QQUwLzYF2750Ij48ei7bdScKcHM41cCAhI2ggAYDzIwMjYxMTIxMTg0MDU0\
    WqARGA8yMDI2MTEyMTE5NDA1NFowCgYIKoZIzj0EAwIDSQAwRgIhAIU9416H4LfkSehYP8DHrGO8JxRmFMDRtd25ZtJXeMglAiEA\
    n7+2W6Hrn3xz1teh9rlws0TSUcr4AB7vJXu9DDzmRwOgggGDMIIBfzCCAXswggEhoAMCAQICAQcwCgYIKoZIzj0EAwIwKTELMAkG\
    A1UEBhMCRlIxDTALBgNVBAoMBFRlc3QxCzAJBgNVBAMMAkFDMB4XDTI2MTEyMTE4NDA1NFoXDTM2MTExODE4NDA1NFowDDEKMAgG\
    A1UEAwwBUjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABJNjvX7fwIwJO6/Q49ZhFM1T1kVAEgNhnK4cWeeShRPQvpCT3uP71Jsl\
    r5IyfR6Xas7lQYT8waAACPIQLBAj6eGjVzBVMBMGA1UdJQQMMAoGCCsGAQUFBwMJMB0GA1UdDgQWBBTcEEDWXWqvH+q2B8LcT2hW\
    wwPYpzAfBgNVHSMEGDAWgBTAvNgXbvnQiPjx6Ltt1JwpwczjVzAKBggqhkjOPQQDAgNIADBFAiAPc5B/m8h5czOBRw8zgCpPjgk0\
    CornYiNARISj6kR3qQIhAOS+typNwSMCX9coe83+hGllgvIx5HNyYa/VsekQN2iK";

/// Every element of a signed list; digests and signature are of nothing.
const WHITE_LIST: &str = r##"<?xml version="1.0" encoding="UTF-8"?><ListeBlancheDRIM-M xmlns="https://github.com/ansforge/DRIM-M_DATA" versionFormat="1.0.0">
<DateDeGeneration>2026-06-19T18:06:52Z</DateDeGeneration><ListeDomaines><Domaine><Identifiant>3</Identifiant><db>db3.test.fr</db><vi/><Denomination>A &amp; B</Denomination><DNCertificatOperateur>CN=db3.test.fr,OU=318751275100020,O=X,ST=Paris (75),C=FR</DNCertificatOperateur></Domaine></ListeDomaines>
<ds:Signature xmlns:ds="http://www.w3.org/2000/09/xmldsig#" Id="s"><ds:SignedInfo><ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/><ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"/><ds:Reference URI=""><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2002/06/xmldsig-filter2"><f:XPath xmlns:f="http://www.w3.org/2002/06/xmldsig-filter2" Filter="subtract">/descendant::ds:Signature</f:XPath></ds:Transform><ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue>AAAA</ds:DigestValue></ds:Reference><ds:Reference Type="http://uri.etsi.org/01903#SignedProperties" URI="#p"><ds:Transforms><ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/></ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/><ds:DigestValue>AAAA</ds:DigestValue></ds:Reference></ds:SignedInfo><ds:SignatureValue>AAAA</ds:SignatureValue><ds:KeyInfo><ds:X509Data><ds:X509Certificate>MAA=</ds:X509Certificate></ds:X509Data></ds:KeyInfo><ds:Object><x:QualifyingProperties xmlns:x="http://uri.etsi.org/01903/v1.3.2#" Target="#s"><x:SignedProperties Id="p"><x:SignedSignatureProperties><x:SigningTime>2026-09-14T13:40:59Z</x:SigningTime></x:SignedSignatureProperties></x:SignedProperties></x:QualifyingProperties></ds:Object></ds:Signature></ListeBlancheDRIM-M>"##;
