//! Images of the sample exams, as they are and with other ways to be shown: what judges of pictures are
//! given.

use std::path::{Path, PathBuf};

use conformance::samples::Instance;
use dicom_core::value::DataSetSequence;
use dicom_core::{DataElement, Length, PrimitiveValue, Tag, VR};
use dicom_dictionary_std::{tags, uids};
use dicom_object::{DefaultDicomObject, InMemDicomObject};

use super::{exam, exams};

/// A frame to be shown.
pub struct Shown {
    /// What it is.
    pub name: String,
    /// The file.
    pub file: PathBuf,
    /// The frame, from 0.
    pub frame: u32,
    /// Whether its samples were lost in part: two decoders may differ.
    pub is_lossy: bool,
}

/// Everything below.
pub fn all(into: &Path) -> Vec<Shown> {
    let mut all = greys(into);
    all.extend(colours());
    all.extend(groups(into));
    all
}

/// Monochrome images: inverse ones, each function of the window, tables.
pub fn greys(into: &Path) -> Vec<Shown> {
    let radiograph = exams().path(first("dx"));
    let section = exams().path(first("ct"));
    let windowed = |center: &str, width: &str, function: &str| {
        let values = [center, width, function].map(str::to_owned);
        move |object: &mut DefaultDicomObject| window(object, values.each_ref())
    };
    vec![
        as_it_is("radiograph", radiograph.clone()),
        edited(&radiograph, into, "inverse", |object| {
            object.put_str(tags::PHOTOMETRIC_INTERPRETATION, VR::CS, "MONOCHROME1");
            object.put_str(tags::PRESENTATION_LUT_SHAPE, VR::CS, "INVERSE");
        }),
        edited(&section, into, "linear", windowed("40", "401", "LINEAR")),
        edited(
            &section,
            into,
            "linear-exact",
            windowed("-60.5", "900", "LINEAR_EXACT"),
        ),
        edited(&section, into, "sigmoid", windowed("40", "300", "SIGMOID")),
        edited(&section, into, "voi-table", voi_table),
        edited(&section, into, "modality-table", modality_table),
    ]
}

/// Colour images: by pixel, by plane, as luminance, by a palette.
pub fn colours() -> Vec<Shown> {
    let instances = exam("us").instances();
    let shown = instances.map(|instance| Shown {
        is_lossy: instance.transfer_syntax_uid == uids::JPEG_BASELINE8_BIT,
        ..as_it_is(&instance.file, exams().path(instance))
    });
    shown.collect()
}

/// Frames whose windows are in functional groups: their own, or the one that all share.
pub fn groups(into: &Path) -> Vec<Shown> {
    let source = exams().path(first("enhanced-mr"));
    let made = edited(&source, into, "groups", |object| {
        let tag = tags::PER_FRAME_FUNCTIONAL_GROUPS_SEQUENCE;
        let own = object.take_element(tag).unwrap().into_value().into_items();
        let mut own = own.unwrap();
        let windows = [
            None,
            Some(["900", "500", "LINEAR"]),
            Some(["400", "800.5", "LINEAR_EXACT"]),
            Some(["700", "300", "SIGMOID"]),
        ];
        assert_eq!(own.len(), windows.len());
        for (group, values) in own.iter_mut().zip(windows) {
            if let Some(values) = values {
                let mut item = InMemDicomObject::new_empty();
                window(&mut item, values);
                put_items(group, tags::FRAME_VOILUT_SEQUENCE, vec![item]);
            }
        }
        put_items(object, tag, own.into_vec());
    });
    let frame = |frame| Shown {
        name: format!("{} {frame}", made.name),
        file: made.file.clone(),
        frame,
        is_lossy: false,
    };
    (0..4).map(frame).collect()
}

fn first(name: &str) -> &'static Instance {
    exam(name).instances().next().unwrap()
}

fn as_it_is(name: &str, file: PathBuf) -> Shown {
    Shown {
        name: name.to_owned(),
        file,
        frame: 0,
        is_lossy: false,
    }
}

fn edited(
    source: &Path,
    into: &Path,
    name: &str,
    edit: impl FnOnce(&mut DefaultDicomObject),
) -> Shown {
    let mut object = dicom_object::open_file(source).unwrap();
    edit(&mut object);
    let file = into.join(format!("{name}.dcm"));
    object.write_to_file(&file).unwrap();
    as_it_is(name, file)
}

fn window<T: AsRef<str>>(object: &mut InMemDicomObject, [center, width, function]: [T; 3]) {
    object.put_str(tags::WINDOW_CENTER, VR::DS, center.as_ref());
    object.put_str(tags::WINDOW_WIDTH, VR::DS, width.as_ref());
    object.put_str(tags::VOILUT_FUNCTION, VR::CS, function.as_ref());
}

/// Instead of a window a curve over a part of the values, in 12 bits (PS3.3 §C.11.2.1.1).
fn voi_table(object: &mut DefaultDicomObject) {
    object.remove_element(tags::WINDOW_CENTER);
    object.remove_element(tags::WINDOW_WIDTH);
    let values = (0..1024_u32).map(|at| u16::try_from(at * at * 4095 / (1023 * 1023)).unwrap());
    let descriptor = PrimitiveValue::I16([1024, -200, 12].into_iter().collect());
    let descriptor = DataElement::new(tags::LUT_DESCRIPTOR, VR::SS, descriptor);
    let item = table(descriptor, values.collect());
    put_items(object, tags::VOILUT_SEQUENCE, vec![item]);
}

/// Instead of slope and intercept a curve over all values, and a window over what it gives (PS3.3
/// §C.11.1.1.1).
fn modality_table(object: &mut DefaultDicomObject) {
    for tag in [
        tags::RESCALE_INTERCEPT,
        tags::RESCALE_SLOPE,
        tags::RESCALE_TYPE,
    ] {
        object.remove_element(tag);
    }
    let values = (0..4096_u32).map(|at| u16::try_from(at * at / 256).unwrap());
    let descriptor = PrimitiveValue::U16([4096, 0, 16].into_iter().collect());
    let descriptor = DataElement::new(tags::LUT_DESCRIPTOR, VR::US, descriptor);
    let mut item = table(descriptor, values.collect());
    item.put_str(tags::MODALITY_LUT_TYPE, VR::LO, "US");
    put_items(object, tags::MODALITY_LUT_SEQUENCE, vec![item]);
    window(object, ["4000", "6001", "LINEAR"]);
}

fn table(descriptor: DataElement<InMemDicomObject>, values: Vec<u16>) -> InMemDicomObject {
    let data = PrimitiveValue::U16(values.into_iter().collect());
    InMemDicomObject::from_element_iter([
        descriptor,
        DataElement::new(tags::LUT_DATA, VR::OW, data),
    ])
}

fn put_items(object: &mut InMemDicomObject, tag: Tag, items: Vec<InMemDicomObject>) {
    let sequence = DataSetSequence::new(items, Length::UNDEFINED);
    object.put(DataElement::new(tag, VR::SQ, sequence));
}
