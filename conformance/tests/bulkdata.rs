//! Bulk data: what metadata name by URL is found there; the forms of HTTP that all resources share.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod support;

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use conformance::samples::{Exam, Instance};
use conformance::testkit::{Client, Gateway, GatewayConfig, Response};
use dicom_core::value::{DataSetSequence, PixelFragmentSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{FileMetaTableBuilder, InMemDicomObject, StandardDataDictionary};
use dicom_transfer_syntax_registry::entries;
use drimbox::dicom::uid::TransferSyntaxUid;
use drimbox::pixels::{TranscodeOptions, is_decodable, transcode};
use flate2::Compression;
use flate2::write::DeflateEncoder;
use http::Method;
use serde_json::Value as Json;
use support::compare::{BIG_ENDIAN, Part10};
use support::pair::Pair;
use support::{JSON, exam, exams, folder, json, run, study_path};

type Object = InMemDicomObject<StandardDataDictionary>;

const OCTETS: &str = "application/octet-stream";
const PARTS: &str = "multipart/related; type=\"application/octet-stream\"";

const MAKER: Tag = Tag(0x0009, 0x0010);
const LONG: Tag = Tag(0x0009, 0x1001);
const WORDS: Tag = Tag(0x0009, 0x1002);
const NESTED: Tag = Tag(0x0009, 0x1003);

async fn get(client: &Client, url: &str, accept: &str) -> Response {
    client.get(url).accept(accept).send().await.unwrap()
}

async fn metadata(pair: &Pair, exam: &Exam) -> Vec<Json> {
    let url = format!("{}{}/metadata", pair.gateway.local_url(), study_path(exam));
    let answer = get(&pair.client, &url, JSON).await;
    if answer.status() != 200 {
        panic!("{}: {}", answer.status(), answer.text().await.unwrap());
    }
    answer.json().await.unwrap().as_array().unwrap().clone()
}

/// Every URL of bulk data in a model, with the value it stands for.
fn named<'o>(
    model: &Json,
    stored: &'o Object,
    found: &mut Vec<(String, &'o Value<Object, Vec<u8>>)>,
) {
    for (name, attribute) in model.as_object().unwrap() {
        let number = u32::from_str_radix(name, 16).unwrap();
        let tag = Tag((number >> 16) as u16, (number & 0xFFFF) as u16);
        if let Some(uri) = attribute.get("BulkDataURI") {
            let element = stored.get(tag).unwrap();
            found.push((uri.as_str().unwrap().to_owned(), element.value()));
        }
        if attribute["vr"] == "SQ"
            && let Some(items) = attribute.get("Value").and_then(Json::as_array)
        {
            // One that was written as UN has no items for dicom-object.
            let stored = stored.get(tag).unwrap().items().unwrap_or_default();
            for (model, item) in items.iter().zip(stored) {
                named(model, item, found);
            }
        }
    }
}

fn bytes_of(value: &Value<Object, Vec<u8>>) -> Vec<u8> {
    match value {
        Value::PixelSequence(pixels) => pixels.fragments().concat(),
        Value::Primitive(value) => value.to_bytes().into_owned(),
        Value::Sequence(_) => panic!("a sequence is no bulk data"),
    }
}

/// The pixel data of a file in Explicit VR Little Endian.
fn decoded(file: &Path) -> Vec<u8> {
    let explicit = TransferSyntaxUid::parse(uids::EXPLICIT_VR_LITTLE_ENDIAN).unwrap();
    let mut plain = Vec::new();
    let (source, options) = (fs::File::open(file).unwrap(), TranscodeOptions::default());
    transcode(source, &explicit, &options, &mut plain).unwrap();
    let plain = Part10::read(&plain);
    let pixels = plain.data_set.element(tags::PIXEL_DATA).unwrap();
    pixels.to_bytes().unwrap().into_owned()
}

/// The bytes behind a URL, alone where they can be had so, and as the parts of a body.
async fn fetched(client: &Client, url: &str, into: &str) -> (Option<Vec<u8>>, Vec<u8>) {
    let alone = get(client, url, OCTETS).await;
    let alone = match alone.status().as_u16() {
        200 => Some(alone.bytes().await.unwrap().to_vec()),
        406 => None,
        status => panic!("{url}: {status}"),
    };
    let into = folder(into);
    let parts = get(
        client,
        url,
        "multipart/related; type=\"*/*\"; transfer-syntax=*",
    )
    .await;
    assert_eq!(parts.status(), 200, "{url}");
    let parts = parts.multipart_to(&into).await.unwrap();
    assert!(parts.is_complete(), "{url}");
    let one = url.replace("/bulkdata/7FE00010", "");
    for (part, number) in parts.parts.iter().zip(1..) {
        let mut fields = part.headers.iter();
        let (_, location) = fields.find(|(name, _)| name == "content-location").unwrap();
        let frame = format!("{one}/frames/{number}");
        assert!(
            *location == url || *location == frame,
            "{location} of {url}"
        );
    }
    let bytes = (0..parts.parts.len())
        .flat_map(|part| fs::read(into.join(format!("{part}.part"))).unwrap())
        .collect();
    (alone, bytes)
}

#[test]
fn every_url_of_bulk_data_leads_to_the_value_of_the_data_set() {
    run(async {
        let names = [
            "ct",
            "enhanced-mr",
            "us",
            "documents",
            "elements",
            "fragments",
            "pixels",
        ];
        let pair = Pair::over("bulk", support::files(&names)).await;
        for name in names {
            let exam = exam(name);
            let all = metadata(&pair, exam).await;
            for instance in exam.instances() {
                let stored = Part10::read(&fs::read(exams().path(instance)).unwrap());
                let model = all.iter().find(|object| {
                    json::text(object, tags::SOP_INSTANCE_UID) == instance.sop_instance_uid
                });
                let mut found = Vec::new();
                named(model.unwrap(), &stored.data_set, &mut found);
                assert_eq!(found.is_empty(), instance.frames == 0, "{}", instance.file);
                for (url, value) in found {
                    let (alone, parts) = fetched(&pair.client, &url, "bulk-parts").await;
                    let expected = bytes_of(value);
                    // Frames begin at bytes of their own, and have no padding after them.
                    let same = |bytes: &[u8]| {
                        bytes == expected
                            || (expected.len() == bytes.len() + 1 && expected.starts_with(bytes))
                    };
                    assert!(same(&parts), "{url} of {}", instance.file);
                    let syntax = TransferSyntaxUid::parse(&instance.transfer_syntax_uid).unwrap();
                    match (value, alone) {
                        (Value::PixelSequence(_), None) => {
                            assert!(!is_decodable(&syntax), "{url} of {}", instance.file);
                        }
                        (Value::PixelSequence(_), Some(alone)) => {
                            let plain = decoded(&exams().path(instance));
                            let padded = plain.len() == alone.len() + 1;
                            let same = plain.starts_with(&alone);
                            assert!(same && (padded || plain.len() == alone.len()), "{url}");
                        }
                        (_, alone) => {
                            let alone = alone.unwrap_or_else(|| panic!("{url} is 406"));
                            assert!(same(&alone), "{url} of {}", instance.file);
                        }
                    }
                }
            }
        }
    });
}

/// The object of `file` with long values: bytes, words, and bytes inside a sequence.
fn with_long_values(file: &Path, to: &Path, size: usize) -> PathBuf {
    let mut object = dicom_object::open_file(file).unwrap();
    let bytes = |seed: usize| {
        let bytes: Vec<u8> = (0..size).map(|n| ((n * 31 + seed) % 251) as u8).collect();
        PrimitiveValue::from(bytes)
    };
    let words: Vec<u16> = (0..size / 2).map(|n| (n % 65_521) as u16).collect();
    let item = Object::from_element_iter([
        DataElement::new(MAKER, VR::LO, PrimitiveValue::from("MAKER")),
        DataElement::new(LONG, VR::OB, bytes(2)),
    ]);
    object.put_str(MAKER, VR::LO, "MAKER");
    object.put(DataElement::new(LONG, VR::OB, bytes(1)));
    object.put(DataElement::new(
        WORDS,
        VR::OW,
        PrimitiveValue::U16(words.into_iter().collect()),
    ));
    object.put(DataElement::new(
        NESTED,
        VR::SQ,
        DataSetSequence::from(vec![Object::new_empty(), item]),
    ));
    object.write_to_file(to).unwrap();
    to.to_owned()
}

/// The same object, its data set deflated (PS3.5 §A.5), which dicom-object does not write.
fn deflated(explicit: &Path) -> PathBuf {
    let object = dicom_object::open_file(explicit).unwrap();
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(object.meta().media_storage_sop_class_uid())
        .media_storage_sop_instance_uid(object.meta().media_storage_sop_instance_uid())
        .transfer_syntax(uids::DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN);
    let mut file = vec![0; 128];
    file.extend_from_slice(b"DICM");
    meta.build().unwrap().write(&mut file).unwrap();
    let mut deflate = DeflateEncoder::new(&mut file, Compression::fast());
    let explicit_syntax = entries::EXPLICIT_VR_LITTLE_ENDIAN.erased();
    object
        .write_dataset_with_ts(&mut deflate, &explicit_syntax)
        .unwrap();
    deflate.finish().unwrap();
    let to = explicit.with_extension("deflated.dcm");
    fs::write(&to, file).unwrap();
    to
}

#[test]
fn long_values_of_every_encoding_are_named_by_url_and_found_there() {
    run(async {
        let from = folder("long-values");
        let exam = exam("syntaxes");
        let syntaxes = [
            uids::EXPLICIT_VR_LITTLE_ENDIAN,
            BIG_ENDIAN,
            uids::RLE_LOSSLESS,
            uids::JPEGLS_LOSSLESS,
        ];
        // Kept whole in memory while it is described, deflated among them; and too large for that.
        for size in [40_000, 3 << 20] {
            let mut files: Vec<PathBuf> = syntaxes
                .iter()
                .map(|syntax| {
                    let mut all = exam.instances();
                    let source = all.find(|one| one.transfer_syntax_uid == *syntax).unwrap();
                    let to = from.join(format!("{syntax}-{size}.dcm"));
                    with_long_values(&exams().path(source), &to, size)
                })
                .collect();
            let plain = files[0].clone();
            files[0] = if size > 1 << 20 {
                plain
            } else {
                deflated(&plain)
            };
            let pair = Pair::over(&format!("long-{size}"), files.clone()).await;
            let all = metadata(&pair, exam).await;
            assert_eq!(all.len(), files.len());
            for file in files {
                let stored = Part10::read(&fs::read(&file).unwrap());
                let model = all
                    .iter()
                    .find(|one| json::text(one, tags::SOP_INSTANCE_UID) == stored.instance());
                let mut found = Vec::new();
                named(model.unwrap(), &stored.data_set, &mut found);
                // The three, and the pixels.
                assert_eq!(found.len(), 4, "{}", file.display());
                for (url, value) in found.iter().filter(|(url, _)| !url.ends_with("7FE00010")) {
                    let (alone, parts) = fetched(&pair.client, url, "long-parts").await;
                    assert!(
                        alone.unwrap() == bytes_of(value),
                        "{url} of {}",
                        file.display()
                    );
                    assert!(parts == bytes_of(value), "{url} of {}", file.display());
                }
            }
        }
    });
}

/// The object of `file` with an icon in its syntax, and a value beside it that is `size` bytes long.
fn with_icon(file: &Path, to: &Path, icon: &[&[u8]], size: usize) {
    let mut object = dicom_object::open_file(file).unwrap();
    let fragments: Vec<Vec<u8>> = icon.iter().map(|fragment| fragment.to_vec()).collect();
    let fragments = PixelFragmentSequence::new_fragments(fragments);
    let number = |tag, value: u16| DataElement::new(tag, VR::US, PrimitiveValue::from(value));
    let item = Object::from_element_iter([
        number(tags::ROWS, 64),
        number(tags::COLUMNS, 64),
        DataElement::new(tags::PIXEL_DATA, VR::OB, fragments),
    ]);
    object.put(DataElement::new(
        tags::ICON_IMAGE_SEQUENCE,
        VR::SQ,
        DataSetSequence::from(vec![item]),
    ));
    object.put_str(MAKER, VR::LO, "MAKER");
    object.put(DataElement::new(
        LONG,
        VR::OB,
        PrimitiveValue::from(vec![7_u8; size]),
    ));
    object.write_to_file(to).unwrap();
}

#[test]
fn an_icon_is_found_where_metadata_name_it() {
    run(async {
        let exam = exam("syntaxes");
        let mut all = exam.instances();
        let of = |one: &&Instance| one.transfer_syntax_uid == uids::JPEGLS_LOSSLESS;
        let instance = all.find(of).unwrap();
        let icon: [&[u8]; 2] = [b"first fragment", b"and the second"];
        // Read at once; and too large for that.
        for size in [40_000, 5 << 20] {
            let file = folder("icon").join("icon.dcm");
            with_icon(&exams().path(instance), &file, &icon, size);
            let pair = Pair::over(&format!("icon-{size}"), vec![file]).await;
            let model = metadata(&pair, exam).await.remove(0);
            let url = &model["00880200"]["Value"][0]["7FE00010"]["BulkDataURI"];
            let url = url.as_str().unwrap();
            let (alone, parts) = fetched(&pair.client, url, "icon-parts").await;
            assert_eq!(alone.unwrap(), icon.concat());
            assert_eq!(parts, icon.concat());
            let any = "multipart/related; type=\"*/*\"; transfer-syntax=*";
            let every = pair.get(instance, "/bulkdata", any).await;
            let every = every.multipart().await.unwrap();
            let is_icon =
                |(name, value): &(String, String)| name == "content-location" && value == url;
            let mut parts = every.parts.iter();
            assert!(parts.any(|part| part.headers.iter().any(is_icon)));
        }
    });
}

#[test]
fn a_part_of_a_long_value_is_a_range_of_it() {
    run(async {
        let exam = exam("multiframe");
        let pair = Pair::over("ranges", support::files(&["multiframe"])).await;
        let all = metadata(&pair, exam).await;
        let url = all[0]["7FE00010"]["BulkDataURI"].as_str().unwrap();
        // What has just arrived has no tag yet.
        let root = pair.gateway.local_url();
        cached(&pair, &format!("{root}{}/metadata", study_path(exam))).await;
        let whole = get(&pair.client, url, OCTETS).await;
        assert_eq!(whole.header("accept-ranges"), "bytes");
        let tag = whole.header("etag").to_owned();
        let whole = whole.bytes().await.unwrap();
        let length = whole.len();
        let range = async |range: &str| {
            let call = pair.client.get(url).accept(OCTETS).header("range", range);
            call.send().await.unwrap()
        };
        let part = range("bytes=1000-300999").await;
        assert_eq!(part.status(), 206);
        assert_eq!(
            part.header("content-range"),
            format!("bytes 1000-300999/{length}")
        );
        assert_eq!(part.bytes().await.unwrap(), whole[1000..301_000]);
        let end = range("bytes=-10").await;
        assert_eq!(end.bytes().await.unwrap(), whole[length - 10..]);
        let beyond = range(&format!("bytes={length}-")).await;
        assert_eq!(beyond.status(), 416);
        assert_eq!(beyond.header("content-range"), format!("bytes */{length}"));

        // Of another version nothing is a part.
        for (condition, status) in [(tag.as_str(), 206), ("W/\"old\"", 200), ("\"old\"", 200)] {
            let call = pair.client.get(url).accept(OCTETS);
            let call = call
                .header("range", "bytes=1000-")
                .header("if-range", condition);
            let answer = call.send().await.unwrap();
            assert_eq!(answer.status(), status, "{condition}");
            let sent = answer.bytes().await.unwrap();
            let from = if status == 206 { 1000 } else { 0 };
            assert!(sent == whole[from..], "{condition}");
        }
        // A range is of GET.
        let call = pair.client.request(Method::HEAD, url).accept(OCTETS);
        let head = call.header("range", "bytes=1000-").send().await.unwrap();
        assert_eq!(head.status(), 200);
        assert_eq!(head.header("content-length"), length.to_string());
    });
}

#[test]
fn a_value_that_is_not_there_is_not_found() {
    run(async {
        let exam = exam("documents");
        let pair = Pair::over("bulk-errors", support::files(&["documents", "ct"])).await;
        let instance = exam.instances().find(|one| one.frames == 0).unwrap();
        for (below, accept, status) in [
            ("/bulkdata/7FE00010", OCTETS, 404),
            ("/bulkdata/00091001", OCTETS, 404),
            ("/bulkdata/00081140/0/00081155", OCTETS, 404),
            ("/bulkdata/0008114", OCTETS, 400),
            ("/bulkdata/..%2f", OCTETS, 400),
            ("/bulkdata/00081140/x/00081155", OCTETS, 400),
            ("/bulkdata/00100010", "image/png", 406),
            ("/pixeldata", PARTS, 404),
        ] {
            let answer = pair.get(instance, below, accept).await;
            assert_eq!(answer.status(), status, "{below}");
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
        // Any value has a URL, whether metadata name it or not.
        let title = pair.get(instance, "/bulkdata/00080016", OCTETS).await;
        let title = title.bytes().await.unwrap();
        assert!(title.starts_with(instance.sop_class_uid.as_bytes()));
        let image = support::exam("ct").instances().next().unwrap();
        let frames = pair.get(image, "/pixeldata", PARTS).await;
        assert_eq!(frames.multipart().await.unwrap().parts.len(), 1);
    });
}

/// Waits until what metadata describe is in the cache: only then is it named by a tag.
async fn cached(pair: &Pair, metadata: &str) {
    support::until("in the cache", async || {
        let answer = get(&pair.client, metadata, JSON).await;
        let is_tagged = answer.headers().contains_key("etag");
        answer.bytes().await.unwrap();
        is_tagged
    })
    .await;
}

#[test]
fn what_did_not_change_is_not_sent_again() {
    run(async {
        let exam = exam("ct");
        let pair = Pair::over("etag", support::files(&["ct", "mr"])).await;
        let root = pair.gateway.local_url();
        let study = root.clone() + &study_path(exam);
        cached(&pair, &format!("{study}/metadata")).await;
        let instance = root + &support::instance_path(exam, &exam.series[0], 0);
        let cases = [
            (study.clone(), support::AS_STORED),
            (
                study.clone(),
                "multipart/related; type=\"application/dicom\"",
            ),
            (format!("{study}/metadata"), JSON),
            (
                format!("{study}/metadata"),
                "multipart/related; type=\"application/dicom+xml\"",
            ),
            (instance.clone(), support::SINGLE),
            (format!("{instance}/metadata"), JSON),
            (format!("{instance}/frames/1"), PARTS),
            (format!("{instance}/bulkdata/00080016"), OCTETS),
            (format!("{instance}/rendered"), "image/png"),
        ];
        let mut tags = Vec::new();
        for (url, accept) in &cases {
            let first = get(&pair.client, url, accept).await;
            assert_eq!(first.status(), 200, "{url}");
            let tag = first.header("etag").to_owned();
            // A value alone is the same byte for byte; boundaries are not.
            let weak = if *accept == OCTETS { "" } else { "W/" };
            assert!(tag.starts_with(&format!("{weak}\"")), "{url}: {tag}");
            assert_eq!(first.header("cache-control"), "private, no-cache");
            first.bytes().await.unwrap();
            let call = pair.client.get(url).accept(accept);
            let again = call.header("if-none-match", &tag).send().await.unwrap();
            assert_eq!(again.status(), 304, "{url}");
            assert_eq!(again.header("etag"), tag);
            assert!(again.bytes().await.unwrap().is_empty());
            let call = pair.client.get(url).accept(accept);
            let other = call.header("if-none-match", "\"x\"").send().await.unwrap();
            assert_eq!(other.status(), 200, "{url}");
            other.bytes().await.unwrap();
            tags.push(tag);
        }
        // What a client has no form of is there, and can be had, before it is not sent.
        for (below, accept, status) in [
            ("/frames/1", PARTS, 304),
            ("/frames/9999", PARTS, 404),
            ("/frames/1", "image/jp2", 406),
            ("/bulkdata/00080016", OCTETS, 304),
            ("/bulkdata/00091001", OCTETS, 404),
            ("/rendered", "image/png", 304),
            ("/rendered", "image/gif", 406),
            ("", "multipart/related; type=\"application/dicom\"", 304),
        ] {
            let url = format!("{instance}{below}");
            let call = pair.client.get(&url).accept(accept);
            let answer = call.header("if-none-match", "*").send().await.unwrap();
            assert_eq!(answer.status(), status, "{below} {accept}");
            let is_empty = answer.bytes().await.unwrap().is_empty();
            assert_eq!(is_empty, status == 304, "{below} {accept}");
        }
        // No two forms of the study have one tag.
        tags.sort();
        tags.dedup();
        assert_eq!(tags.len(), cases.len());
    });
}

#[test]
fn head_gives_the_fields_of_get_and_no_body() {
    run(async {
        let exam = exam("ct");
        let pair = Pair::over("head", support::files(&["ct"])).await;
        let root = pair.gateway.local_url();
        let instance = root.clone() + &support::instance_path(exam, &exam.series[0], 0);
        let cases = [
            (instance.clone(), support::SINGLE),
            (format!("{instance}/metadata"), JSON),
            (
                format!("{root}/studies?PatientID={}", exam.patient_id),
                JSON,
            ),
            (format!("{root}/studies/1.2.3/metadata"), JSON),
        ];
        // What has just arrived has no tag yet.
        cached(&pair, &format!("{instance}/metadata")).await;
        for (url, accept) in cases {
            let get = get(&pair.client, &url, accept).await;
            let call = pair.client.request(Method::HEAD, &url).accept(accept);
            let head = call.send().await.unwrap();
            assert_eq!(head.status(), get.status(), "{url}");
            for field in ["content-type", "content-length", "etag", "vary"] {
                assert_eq!(head.header(field), get.header(field), "{field} of {url}");
            }
            assert!(head.bytes().await.unwrap().is_empty(), "{url}");
            get.bytes().await.unwrap();
        }
        // Parts have a boundary of their own in each answer.
        let kind = |answer: &Response| {
            let kind = answer.header("content-type");
            kind.split("boundary").next().unwrap_or_default().to_owned()
        };
        let octets = "multipart/related; type=\"application/octet-stream\"";
        for (url, accept) in [
            (instance.clone(), support::AS_STORED),
            (format!("{instance}/frames/1"), octets),
            (format!("{instance}/rendered"), "image/png"),
            (format!("{instance}/thumbnail"), "image/jpeg"),
            (root.clone() + &study_path(exam), support::AS_STORED),
            (format!("{instance}/frames/2"), octets),
        ] {
            let get = get(&pair.client, &url, accept).await;
            let call = pair.client.request(Method::HEAD, &url).accept(accept);
            let head = call.send().await.unwrap();
            assert_eq!(head.status(), get.status(), "{url}");
            assert_eq!(kind(&head), kind(&get), "{url}");
            assert!(head.bytes().await.unwrap().is_empty(), "{url}");
            get.bytes().await.unwrap();
        }
        // A request for the fields alone is not a client that went away.
        let aborted = "drimbox_http_aborted_responses_total";
        assert_eq!(support::metric(&pair.gateway, aborted, &[]).await, 0);
    });
}

#[test]
fn json_is_compressed_for_who_takes_gzip_and_nothing_else_is() {
    run(async {
        let exam = exam("ct");
        let pair = Pair::over("gzip", support::files(&["ct"])).await;
        let study = pair.gateway.local_url() + &study_path(exam);
        let url = format!("{study}/metadata");
        // The order in which instances came is that of the cache from then on.
        cached(&pair, &url).await;
        let plain = get(&pair.client, &url, JSON).await.bytes().await.unwrap();
        let zipped = async |url: &str, accept: &str| {
            let call = pair.client.get(url).accept(accept);
            call.header("accept-encoding", "gzip, br")
                .send()
                .await
                .unwrap()
        };
        let answer = zipped(&url, JSON).await;
        assert_eq!(answer.header("content-encoding"), "gzip");
        let body = answer.bytes().await.unwrap();
        assert!(
            body.len() * 3 < plain.len(),
            "{} of {}",
            body.len(),
            plain.len()
        );
        let mut text = Vec::new();
        let mut decoder = flate2::read::GzDecoder::new(&body[..]);
        decoder.read_to_end(&mut text).unwrap();
        let (text, plain): (Json, Json) = (
            serde_json::from_slice(&text).unwrap(),
            serde_json::from_slice(&plain).unwrap(),
        );
        assert_eq!(text, plain);
        let search = format!("{study}/instances?includefield=all");
        let matches = zipped(&search, JSON).await;
        assert_eq!(matches.header("content-encoding"), "gzip");
        matches.bytes().await.unwrap();
        let image = pair.gateway.local_url() + &support::instance_path(exam, &exam.series[0], 0);
        let xml = "multipart/related; type=\"application/dicom+xml\"".to_owned();
        for (url, accept) in [
            (url, xml.clone()),
            (search, xml),
            (study, support::AS_STORED.to_owned()),
            (image.clone(), support::SINGLE.to_owned()),
            (
                format!("{image}/frames/1"),
                "application/octet-stream".to_owned(),
            ),
            (format!("{image}/rendered"), "image/png".to_owned()),
            (format!("{image}/bulkdata/7FE00010"), "*/*".to_owned()),
        ] {
            let other = zipped(&url, &accept).await;
            assert_eq!(other.status(), 200, "{url}");
            assert!(!other.headers().contains_key("content-encoding"), "{url}");
            let whole = other.bytes().await.unwrap();
            assert!(!whole.starts_with(&[0x1F, 0x8B]), "{url}");
        }
    });
}

#[test]
fn metadata_and_matches_are_had_as_xml() {
    run(async {
        let exam = exam("elements");
        let pair = Pair::over("xml", support::files(&["elements"])).await;
        let root = pair.gateway.local_url();
        let xml = "multipart/related; type=\"application/dicom+xml\"";
        let count = exam.instances().count();
        for (path, count) in [
            (format!("{}/metadata", study_path(exam)), count),
            (format!("/studies?PatientID={}", exam.patient_id), 1),
        ] {
            let into = folder("xml-parts");
            let answer = get(&pair.client, &(root.clone() + &path), xml).await;
            assert_eq!(answer.status(), 200);
            let body = answer.multipart_to(&into).await.unwrap();
            assert!(body.is_complete());
            assert_eq!(body.parts.len(), count);
            for part in 0..count {
                assert_eq!(body.parts[part].content_type(), "application/dicom+xml");
                let text = fs::read_to_string(into.join(format!("{part}.part"))).unwrap();
                let study = format!(
                    "<DicomAttribute tag=\"0020000D\" vr=\"UI\" keyword=\"StudyInstanceUID\">\
                     <Value number=\"1\">{}</Value></DicomAttribute>",
                    exam.study_instance_uid
                );
                assert!(text.contains(&study), "{text}");
                assert!(text.contains("<Alphabetic><FamilyName>BIDON</FamilyName>"));
            }
        }
    });
}

#[test]
fn options_describes_the_service() {
    run(async {
        let pair = Pair::over("options", support::files(&["ct"])).await;
        let root = pair.gateway.local_url();
        for path in ["", "/", "/studies"] {
            let url = format!("{root}{path}");
            let answer = pair
                .client
                .request(Method::OPTIONS, &url)
                .send()
                .await
                .unwrap();
            assert_eq!(answer.status(), 200, "{url}");
            assert_eq!(answer.header("allow"), "GET, HEAD, OPTIONS");
            assert_eq!(
                answer.header("content-type"),
                "application/vnd.sun.wadl+xml"
            );
            let text = answer.text().await.unwrap();
            assert!(text.contains(&format!("base=\"{root}\"")), "{text}");
            assert!(text.contains("SearchForStudies") && text.contains("RetrieveFrames"));
        }
        let url = format!("{root}/studies");
        let answer = pair
            .client
            .request(Method::DELETE, &url)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 405);
        assert_eq!(answer.header("allow"), "GET, HEAD, OPTIONS");
    });
}

#[test]
fn only_pages_of_a_chosen_origin_may_read_answers() {
    run(async {
        let chosen = "https://viewer.example";
        let origins = toml::Value::Array(vec![chosen.into()]);
        let config = GatewayConfig::new(&folder("cors")).unwrap();
        let config = config.set("dicomweb.cors_origins", origins);
        let pacs = conformance::testkit::PacsConfig::new("pacs", "NOBODY", 9);
        let gateway = Gateway::start(config.pacs(pacs)).await.unwrap();
        let client = Client::plain().unwrap();
        let url = gateway.local_url() + "/studies/1.2.3";
        let preflight = async |origin: &str| {
            let call = client
                .request(Method::OPTIONS, &url)
                .header("origin", origin);
            let call = call.header("access-control-request-method", "GET");
            call.send().await.unwrap()
        };
        let field = "access-control-allow-origin";
        let answer = preflight(chosen).await;
        assert_eq!(answer.status(), 204);
        assert_eq!(answer.header(field), chosen);
        let other = preflight("https://other.example").await;
        assert!(!other.headers().contains_key(field));
        let problem = client
            .get(&url)
            .header("origin", chosen)
            .send()
            .await
            .unwrap();
        assert_eq!(problem.header(field), chosen);
        let problem = client
            .get(&url)
            .header("origin", "null")
            .send()
            .await
            .unwrap();
        assert!(!problem.headers().contains_key(field));

        // Unless one is chosen, none is.
        let config = GatewayConfig::new(&folder("no-cors")).unwrap();
        let pacs = conformance::testkit::PacsConfig::new("pacs", "NOBODY", 9);
        let gateway = Gateway::start(config.pacs(pacs)).await.unwrap();
        let url = gateway.local_url() + "/studies/1.2.3";
        for method in [Method::OPTIONS, Method::GET] {
            let call = client.request(method, &url).header("origin", chosen);
            let call = call.header("access-control-request-method", "GET");
            let answer = call.send().await.unwrap();
            let allows = |name: &http::HeaderName| name.as_str().starts_with("access-control-");
            assert!(
                !answer.headers().keys().any(allows),
                "{:?}",
                answer.headers()
            );
        }
    });
}

#[test]
fn urls_in_answers_are_those_of_the_configuration_whatever_a_request_says() {
    run(async {
        let exam = exam("ct");
        let pair = Pair::over("forwarded", support::files(&["ct"])).await;
        let url = pair.gateway.local_url() + &study_path(exam) + "/metadata";
        let call = pair.client.get(&url).accept(JSON);
        let call = call
            .header("forwarded", "host=evil.example;proto=https;by=203.0.113.7")
            .header("x-forwarded-host", "evil.example")
            .header("x-forwarded-proto", "https")
            .header("x-forwarded-prefix", "/evil.example");
        let text = call.send().await.unwrap().text().await.unwrap();
        assert!(text.contains(&pair.gateway.local_url()), "{text}");
        assert!(!text.contains("evil.example"), "{text}");
    });
}
