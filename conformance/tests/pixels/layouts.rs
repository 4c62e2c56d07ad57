//! Frames of encapsulated pixels, however their fragments and offset tables are laid out.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use conformance::samples::Instance;
use dicom_core::value::{PixelFragmentSequence, Value};
use dicom_core::{DataElement, PrimitiveValue, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::FileMetaTableBuilder;

use crate::support::compare::Part10;
use crate::support::pair::Pair;
use crate::support::{exam, exams, folder, run, series_path};
use crate::{OCTETS, STORED, assert_same, pixels, reference};

/// Bytes of a fragment where frames are cut.
const PIECE: usize = 1000;

/// A picture in several frames, in one of the layouts.
struct Laid {
    uid: String,
    file: PathBuf,
    frames: usize,
}

/// The offset table and the fragments of a file.
fn encapsulated(file: &Path) -> (Vec<u32>, Vec<Vec<u8>>) {
    let object = Part10::read(&fs::read(file).unwrap());
    let element = object.data_set.element(tags::PIXEL_DATA).unwrap();
    match element.value() {
        Value::PixelSequence(pixels) => {
            (pixels.offset_table().to_vec(), pixels.fragments().to_vec())
        }
        other => panic!("{other:?}"),
    }
}

/// A code stream without the byte that makes its fragment even.
fn stream(bytes: &[u8]) -> &[u8] {
    let end = bytes.windows(2).rposition(|pair| pair == [0xFF, 0xD9]);
    let (stream, padding) = bytes.split_at(end.unwrap() + 2);
    assert!(padding.len() <= 1, "{} bytes behind a frame", padding.len());
    stream
}

/// The object of `model` with a UID of its own and its frames in pieces, under this table.
fn cut(
    model: &Path,
    into: &Path,
    number: usize,
    table: Vec<u32>,
    extended: Option<&[u32]>,
) -> Laid {
    let uid = format!("2.25.8810{number}");
    let (_, streams) = encapsulated(model);
    let fragments: Vec<Vec<u8>> = streams
        .iter()
        .flat_map(|stream| stream.chunks(PIECE).map(<[u8]>::to_vec))
        .collect();
    let mut object = dicom_object::open_file(model).unwrap();
    object.put_str(tags::SOP_INSTANCE_UID, VR::UI, &uid);
    if let Some(offsets) = extended {
        let offsets = offsets.iter().map(|offset| u64::from(*offset)).collect();
        let lengths = streams.iter().map(|stream| stream.len() as u64).collect();
        for (tag, numbers) in [
            (tags::EXTENDED_OFFSET_TABLE, offsets),
            (tags::EXTENDED_OFFSET_TABLE_LENGTHS, lengths),
        ] {
            object.put(DataElement::new(tag, VR::OV, PrimitiveValue::U64(numbers)));
        }
    }
    let sequence = PixelFragmentSequence::new(table, fragments);
    object.put(DataElement::new(tags::PIXEL_DATA, VR::OB, sequence));
    let meta = FileMetaTableBuilder::new()
        .media_storage_sop_class_uid(object.meta().media_storage_sop_class_uid())
        .media_storage_sop_instance_uid(&uid)
        .transfer_syntax(uids::JPEG_BASELINE8_BIT);
    let object = object.into_inner().with_meta(meta).unwrap();
    let file = into.join(format!("{number}.dcm"));
    object.write_to_file(&file).unwrap();
    let frames = streams.len();
    Laid { uid, file, frames }
}

/// The layouts that the sample exam does not have: several fragments a frame, and a table that is
/// absent, extended, or false in one of two ways.
fn made(model: &Path) -> Vec<Laid> {
    let (_, streams) = encapsulated(model);
    let frames = streams.len();
    // Before each fragment there is the head of its item.
    let size = |piece: &[u8]| u32::try_from(piece.len() + 8).unwrap();
    let of_frame = |stream: &Vec<u8>| stream.chunks(PIECE).map(size).sum();
    let of_frames: Vec<u32> = streams.iter().map(of_frame).collect();
    let of_fragments: Vec<u32> = streams
        .iter()
        .flat_map(|stream| stream.chunks(PIECE).map(size))
        .collect();
    let offsets = |sizes: &[u32]| -> Vec<u32> {
        let begins = |at: usize| sizes[..at].iter().sum();
        (0..frames).map(begins).collect()
    };
    let right = offsets(&of_frames);
    let to_fragments = offsets(&of_fragments);
    let beside = right.iter().map(|offset| 2 * offset + 4).collect();
    let into = folder("layouts-made");
    vec![
        cut(model, &into, 1, Vec::new(), None),
        cut(model, &into, 2, beside, None),
        cut(model, &into, 3, to_fragments, None),
        cut(model, &into, 4, Vec::new(), Some(&right)),
    ]
}

#[test]
fn frames_are_the_same_however_their_fragments_are_laid_out() {
    run(async {
        let exam = exam("fragments");
        let series = &exam.series[0];
        let stored = |instance: &Instance| Laid {
            uid: instance.sop_instance_uid.clone(),
            file: exams().path(instance),
            frames: instance.frames as usize,
        };
        let mut all: Vec<Laid> = series.instances.iter().map(stored).collect();
        let whole = |laid: &&Laid| encapsulated(&laid.file).1.len() == 4;
        let model = all.iter().find(whole).unwrap().file.clone();
        all.extend(made(&model));
        let layout = |laid: &Laid| {
            let (table, fragments) = encapsulated(&laid.file);
            let head = Part10::read(&fs::read(&laid.file).unwrap()).data_set;
            let extended = head.element(tags::EXTENDED_OFFSET_TABLE).is_ok();
            (fragments.len(), table, extended)
        };
        let layouts: BTreeSet<_> = all.iter().map(layout).collect();
        assert_eq!(layouts.len(), 10, "{layouts:?}");

        let (_, sources) = encapsulated(&model);
        let sources: Vec<&[u8]> = sources.iter().map(|source| stream(source)).collect();
        let distinct: BTreeSet<&[u8]> = sources.iter().copied().collect();
        assert_eq!(distinct.len(), 4, "frames that cannot be told apart");
        let scratch = folder("layouts");
        let theirs = pixels(&reference(&model, uids::JPEG_BASELINE8_BIT, &scratch));
        let theirs: Vec<&[u8]> = theirs.chunks(theirs.len() / 4).collect();

        let files = all.iter().map(|laid| laid.file.clone()).collect();
        let pair = Pair::over("layouts-gateway", files).await;
        let into = folder("layouts-parts");
        let mut decoded: Vec<Option<Vec<u8>>> = vec![None; 4];
        for laid in &all {
            let path = format!("{}/instances/{}", series_path(exam, series), laid.uid);
            let url = pair.gateway.local_url() + &path + "/frames/";
            let get = async |list: &str, accept| {
                let call = pair.client.get(&format!("{url}{list}")).accept(accept);
                call.send().await.unwrap()
            };
            let what = laid.file.display();
            // From the last to the first.
            let list: Vec<String> = (1..=laid.frames).rev().map(|n| n.to_string()).collect();
            for accept in [STORED, OCTETS] {
                let answer = get(&list.join(","), accept).await;
                assert_eq!(answer.status(), 200, "{what}");
                let body = answer.multipart_to(&into).await.unwrap();
                assert!(
                    body.is_complete() && body.parts.len() == laid.frames,
                    "{what}"
                );
                for part in 0..laid.frames {
                    let bytes = fs::read(into.join(format!("{part}.part"))).unwrap();
                    let number = laid.frames - 1 - part;
                    let what = format!("frame {} of {what}", number + 1);
                    if accept == STORED {
                        assert!(stream(&bytes) == sources[number], "{what}");
                        continue;
                    }
                    // Two decoders of a lossy JPEG may round differently, one does not.
                    assert_same(&bytes, theirs[number], 3, &what);
                    let first = decoded[number].get_or_insert_with(|| bytes.clone());
                    assert!(
                        *first == bytes,
                        "{what} differs from that of another layout"
                    );
                }
            }
            let beyond = get(&(laid.frames + 1).to_string(), OCTETS).await;
            assert_eq!(beyond.status(), 404, "{what}");
        }
    });
}
