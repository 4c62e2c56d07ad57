//! A whole object from the transfer syntax it is stored in to another, frame by frame.
//!
//! Memory is that of the head and of one frame. Nothing is written before the first frame has been
//! decoded and encoded: until then the caller can still answer with an error.

use std::io::Write;
use std::sync::{Arc, LazyLock};

use dicom_core::{Tag, VR};

use super::codec::{jpeg, jpegls, rle};
use super::colour;
use super::decode::{Coding, Frame};
use super::error::{Codec, PixelError, PixelLimits};
use super::image::{StoredImage, StoredObject, fill, head_limits};
use super::shape::{
    ImageShape, PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION, Photometric, SampleKind,
};
use super::source::{ReadAt, STEP};
use super::worker::Codecs;
use crate::dicom::charset::CharacterSet;
use crate::dicom::convert::Converter;
use crate::dicom::edit::{Edit, edit_head};
use crate::dicom::part10;
use crate::dicom::reader::{DataSet, Elements, Value};
use crate::dicom::syntax::{EXPLICIT_LITTLE, Encoding, RLE};
use crate::dicom::uid::TransferSyntaxUid;

const JPEG_LS_LOSSLESS: &str = "1.2.840.10008.1.2.4.80";
const JPEG_BASELINE: &str = "1.2.840.10008.1.2.4.50";

const SOP_CLASS: Tag = Tag(0x0008, 0x0016);
const SOP_INSTANCE: Tag = Tag(0x0008, 0x0018);
const LOSSY: Tag = Tag(0x0028, 0x2110);
const LOSSY_RATIO: Tag = Tag(0x0028, 0x2112);
const LOSSY_METHOD: Tag = Tag(0x0028, 0x2114);
const ICON_IMAGE_SEQUENCE: Tag = Tag(0x0088, 0x0200);
const EXTENDED_OFFSETS: Tag = Tag(0x7FE0, 0x0001);
const EXTENDED_LENGTHS: Tag = Tag(0x7FE0, 0x0002);
/// The longest even length of a value (PS3.5 §7.1.1).
const VALUE_MAX: u64 = u32::MAX as u64 - 1;

/// How an object is to be transcoded.
#[derive(Debug, Clone)]
pub struct TranscodeOptions {
    /// Bounds on the work.
    pub limits: PixelLimits,
    /// Quality of lossy results, 1 to 100.
    pub quality: u8,
    /// Where codecs written in C and C++ run, for an object that is no image yet.
    pub codecs: Codecs,
    /// Changes to the head of the result, besides those that its pixels require.
    pub edits: Arc<[Edit]>,
}

impl Default for TranscodeOptions {
    fn default() -> Self {
        Self {
            limits: PixelLimits::default(),
            quality: 90,
            codecs: Codecs::InProcess,
            edits: Arc::default(),
        }
    }
}

/// The forms that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    ExplicitLittle,
    JpegLs,
    Rle,
    JpegBaseline,
}

impl Target {
    fn of(syntax: &TransferSyntaxUid) -> Option<Self> {
        Some(match syntax.as_str() {
            EXPLICIT_LITTLE => Self::ExplicitLittle,
            JPEG_LS_LOSSLESS => Self::JpegLs,
            RLE => Self::Rle,
            JPEG_BASELINE => Self::JpegBaseline,
            _ => return None,
        })
    }
}

/// The transfer syntaxes an object stored in this one can be given in without loss, the preferred
/// first; the stored one is left out. None when nothing decodes it.
///
/// Not every image fits every syntax: [`can_transcode`] tells for one.
#[must_use]
pub fn available_targets(stored: &TransferSyntaxUid) -> &'static [TransferSyntaxUid] {
    static WITHOUT: LazyLock<[Vec<TransferSyntaxUid>; 4]> = LazyLock::new(|| {
        let all = [EXPLICIT_LITTLE, JPEG_LS_LOSSLESS, RLE];
        ["", EXPLICIT_LITTLE, JPEG_LS_LOSSLESS, RLE].map(|without| {
            all.iter()
                .filter(|uid| **uid != without)
                .filter_map(|uid| TransferSyntaxUid::parse(uid).ok())
                .collect()
        })
    });
    if Coding::of(stored).is_none() {
        return &[];
    }
    let [all, explicit, jpeg_ls, rle] = &*WITHOUT;
    match stored.as_str() {
        EXPLICIT_LITTLE => explicit,
        JPEG_LS_LOSSLESS => jpeg_ls,
        RLE => rle,
        _ => all,
    }
}

/// The lossy transfer syntaxes an object stored in this one can be given in, for a client that names
/// one.
#[must_use]
pub fn lossy_targets(stored: &TransferSyntaxUid) -> &'static [TransferSyntaxUid] {
    static LOSSY: LazyLock<Vec<TransferSyntaxUid>> = LazyLock::new(|| {
        TransferSyntaxUid::parse(JPEG_BASELINE)
            .into_iter()
            .collect()
    });
    if Coding::of(stored).is_none() || stored.as_str() == JPEG_BASELINE {
        return &[];
    }
    &LOSSY
}

/// True when an image of this form, stored in one transfer syntax, can be written in another.
#[must_use]
pub fn can_transcode(
    shape: &ImageShape,
    stored: &TransferSyntaxUid,
    target: &TransferSyntaxUid,
) -> bool {
    if stored == target {
        return true;
    }
    let (Some(coding), Some(target)) = (Coding::of(stored), Target::of(target)) else {
        return false;
    };
    match target {
        Target::ExplicitLittle => {
            coding == Coding::Native
                || (shape.frame_bytes().saturating_mul(u64::from(shape.frames)) <= VALUE_MAX
                    && (shape.frame_bits().is_multiple_of(8) || shape.frames == 1))
        }
        Target::JpegLs => jpegls::can_encode(shape),
        Target::Rle => {
            shape.bits_allocated.is_multiple_of(8)
                && shape.samples * shape.bits_allocated / 8 <= 15
                && matches!(shape.kind, SampleKind::Integer { .. })
        }
        Target::JpegBaseline => {
            shape.bits_allocated == 8
                && matches!(shape.samples, 1 | 3)
                && !shape.is_signed()
                && shape.photometric != Photometric::PaletteColor
        }
    }
}

/// Writes a DICOM file (PS3.10) in another transfer syntax.
///
/// Between native syntaxes values pass through but for the order of their bytes. Decoded colours
/// that were luminance and chrominance by compression become RGB, and Photometric Interpretation and
/// Planar Configuration say what is written. Lossy Image Compression and its companions stay; a
/// lossy target adds to them (PS3.3 §C.7.6.1.1.5). Offset tables are dropped, and icons that are
/// compressed, which no native data set may hold.
///
/// # Errors
/// [`PixelError::Unsupported`], [`PixelError::UnsupportedForm`] before anything is written; later,
/// what is wrong with a frame: what was written is then no whole object.
pub fn transcode<S: ReadAt, W: Write>(
    source: S,
    target: &TransferSyntaxUid,
    options: &TranscodeOptions,
    out: &mut W,
) -> Result<(), PixelError> {
    let object = StoredObject::open(source, &options.limits)?;
    let stored = object.meta.transfer_syntax.clone();
    if &stored == target {
        return copy(object.bytes.stored(), 0, out);
    }
    let form = Target::of(target).ok_or_else(|| PixelError::Unsupported(target.clone()))?;
    let native = object.pixels.is_none() || Coding::of(&stored) == Some(Coding::Native);
    if form == Target::ExplicitLittle && native && options.edits.is_empty() {
        return convert(&object, target, options, out);
    }
    transcode_image(
        &StoredImage::of(object, options.limits)?.with_codecs(options.codecs.clone()),
        target,
        options,
        out,
    )
}

/// Writes the object of an image in another transfer syntax than its own: see [`transcode`]. Codecs
/// run where those of the image do.
///
/// # Errors
/// As [`transcode`].
pub fn transcode_image<S: ReadAt, W: Write>(
    image: &StoredImage<S>,
    target: &TransferSyntaxUid,
    options: &TranscodeOptions,
    out: &mut W,
) -> Result<(), PixelError> {
    let stored = image.transfer_syntax();
    let form = Target::of(target).ok_or_else(|| PixelError::Unsupported(target.clone()))?;
    if Coding::of(stored).is_none() {
        return Err(PixelError::Unsupported(stored.clone()));
    }
    if !can_transcode(image.shape(), stored, target) {
        return Err(unfit(form));
    }
    Transcoder {
        image,
        form,
        options,
    }
    .run(target, out)
}

fn unfit(form: Target) -> PixelError {
    let what = "images of this number of bits, samples or frames";
    match form {
        Target::JpegLs => PixelError::UnsupportedForm {
            codec: Codec::JpegLs,
            what,
        },
        Target::Rle => PixelError::UnsupportedForm {
            codec: Codec::Rle,
            what,
        },
        Target::JpegBaseline => PixelError::UnsupportedForm {
            codec: Codec::Jpeg,
            what,
        },
        Target::ExplicitLittle => PixelError::NotRenderable(
            "an image of 4 GiB and more, or of frames that share bytes, without compression,",
        ),
    }
}

/// From a native syntax to Explicit VR Little Endian, as the bytes go by.
fn convert<S: ReadAt, W: Write>(
    object: &StoredObject<S>,
    target: &TransferSyntaxUid,
    options: &TranscodeOptions,
    out: &mut W,
) -> Result<(), PixelError> {
    let buffer = meta(object, target, &options.limits)?;
    let at = object.meta.data_set_offset as u64;
    convert_from(object, at, buffer, &options.limits, out)
}

/// Writes `buffer`, then the data set from `at` on, a boundary between elements, in explicit VR
/// little endian.
fn convert_from<S: ReadAt, W: Write>(
    object: &StoredObject<S>,
    mut at: u64,
    mut buffer: Vec<u8>,
    limits: &PixelLimits,
    out: &mut W,
) -> Result<(), PixelError> {
    let mut converter = Converter::from_encoding(object.encoding(), head_limits(limits));
    let mut piece = vec![0; STEP];
    loop {
        let count = fill(&object.bytes, at, &mut piece)?;
        converter.feed(piece.get(..count).unwrap_or_default(), &mut buffer)?;
        at += count as u64;
        if count < piece.len() {
            break;
        }
        out.write_all(&buffer).map_err(PixelError::Output)?;
        buffer.clear();
    }
    converter.finish(&mut buffer)?;
    out.write_all(&buffer).map_err(PixelError::Output)
}

/// Preamble and group 0002 for the result.
fn meta<S: ReadAt>(
    object: &StoredObject<S>,
    target: &TransferSyntaxUid,
    limits: &PixelLimits,
) -> Result<Vec<u8>, PixelError> {
    let head = object.head(limits)?;
    let uid = |tag, name| {
        head.elements()
            .uid(tag)
            .ok_or(PixelError::Missing { tag, name })
    };
    let class = uid(SOP_CLASS, "SOP Class UID")?.into();
    let instance = uid(SOP_INSTANCE, "SOP Instance UID")?.into();
    Ok(part10::file_meta(&class, &instance, target))
}

fn copy<S: ReadAt + ?Sized, W: Write>(
    source: &S,
    from: u64,
    out: &mut W,
) -> Result<(), PixelError> {
    let mut piece = vec![0; STEP];
    let mut at = from;
    loop {
        let count = fill(source, at, &mut piece)?;
        out.write_all(piece.get(..count).unwrap_or_default())
            .map_err(PixelError::Output)?;
        at += count as u64;
        if count < piece.len() {
            return Ok(());
        }
    }
}

struct Transcoder<'i, S> {
    image: &'i StoredImage<S>,
    form: Target,
    options: &'i TranscodeOptions,
}

/// A frame as it is to be written, and what the head must say of it.
struct Written {
    bytes: Vec<u8>,
    photometric: Photometric,
    planar: bool,
}

impl<S: ReadAt> Transcoder<'_, S> {
    fn run<W: Write>(&self, target: &TransferSyntaxUid, out: &mut W) -> Result<(), PixelError> {
        let shape = self.image.shape();
        let first = self.frame(0)?;
        let ratio = match self.form {
            Target::JpegBaseline => Some(self.ratio(&first)?),
            _ => None,
        };
        let mut head = meta(&self.image.object, target, &self.image.limits)?;
        head.extend(self.head(&first, ratio)?);
        let frame_bytes = first.bytes.len() as u64;
        let total = frame_bytes * u64::from(shape.frames);
        if self.form == Target::ExplicitLittle {
            let vr = if shape.bits_allocated > 8 {
                VR::OW
            } else {
                VR::OB
            };
            let length = total + total % 2;
            put_pixel_header(&mut head, vr, u32::try_from(length).unwrap_or(u32::MAX - 1));
        } else {
            put_pixel_header(&mut head, VR::OB, u32::MAX);
            // An empty table: offsets would have to be known before the first frame is written.
            put_item(&mut head, 0);
        }
        out.write_all(&head).map_err(PixelError::Output)?;
        self.write(&first.bytes, out)?;
        drop(first);
        for frame in 1..shape.frames {
            let next = self.frame(frame)?;
            if self.form == Target::ExplicitLittle && next.bytes.len() as u64 != frame_bytes {
                return Err(PixelError::Shape("frames of different sizes".to_owned()));
            }
            self.write(&next.bytes, out)?;
        }
        let mut end = Vec::new();
        if self.form != Target::ExplicitLittle {
            end.extend_from_slice(&[0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0]);
        } else if total % 2 == 1 {
            end.push(0);
        }
        out.write_all(&end).map_err(PixelError::Output)?;
        self.rest(out)
    }

    fn write<W: Write>(&self, bytes: &[u8], out: &mut W) -> Result<(), PixelError> {
        let odd = self.form != Target::ExplicitLittle && bytes.len() % 2 == 1;
        if self.form != Target::ExplicitLittle {
            let mut header = Vec::with_capacity(8);
            let length = bytes.len() as u64 + u64::from(odd);
            put_item(
                &mut header,
                u32::try_from(length).map_err(|_| PixelError::TooLarge {
                    what: "bytes of one fragment",
                    size: length,
                    limit: VALUE_MAX,
                })?,
            );
            out.write_all(&header).map_err(PixelError::Output)?;
        }
        out.write_all(bytes).map_err(PixelError::Output)?;
        let padding: &[u8] = if odd { &[0] } else { &[] };
        out.write_all(padding).map_err(PixelError::Output)
    }

    /// One frame in the form that is written.
    fn frame(&self, number: u32) -> Result<Written, PixelError> {
        let mut frame = self.image.frame(number)?;
        if frame.shape.planar {
            frame = by_pixel(frame);
        }
        let photometric = frame.shape.photometric.clone();
        let bytes = match self.form {
            Target::ExplicitLittle => std::mem::take(&mut frame.samples),
            Target::JpegLs => jpegls::encode(&frame.samples, &frame.shape, &self.image.codecs)?,
            Target::Rle => rle::encode(&frame.samples, &frame.shape)?,
            Target::JpegBaseline => return self.lossy(frame),
        };
        Ok(Written {
            bytes,
            photometric,
            // PS3.5 §8.2.2: samples of a kind are together.
            planar: self.form == Target::Rle,
        })
    }

    fn lossy(&self, mut frame: Frame) -> Result<Written, PixelError> {
        let colour = frame.shape.samples == 3;
        match frame.shape.photometric {
            Photometric::YbrFull => colour::ybr_full_to_rgb(&mut frame.samples),
            Photometric::YbrPartial422 => colour::ybr_partial_to_rgb(&mut frame.samples),
            _ => {}
        }
        let bytes = jpeg::encode(
            &frame.samples,
            frame.shape.columns,
            frame.shape.rows,
            colour,
            self.options.quality,
        )?;
        Ok(Written {
            bytes,
            photometric: if colour {
                Photometric::YbrFull422
            } else {
                frame.shape.photometric
            },
            planar: false,
        })
    }

    /// How many times smaller the lossy frames are. All are encoded for it and forgotten: the head
    /// that says it comes before them.
    fn ratio(&self, first: &Written) -> Result<String, PixelError> {
        let mut encoded = first.bytes.len() as u64;
        for frame in 1..self.image.shape().frames {
            encoded += self.frame(frame)?.bytes.len() as u64;
        }
        let shape = self.image.shape();
        let plain = shape.frame_bytes() * u64::from(shape.frames);
        // Hundredths, in whole numbers.
        let ratio = plain.saturating_mul(100) / encoded.max(1);
        Ok(format!("{}.{:02}", ratio / 100, ratio % 100))
    }

    /// The elements before the pixels, as they are for the result.
    fn head(&self, first: &Written, ratio: Option<String>) -> Result<Vec<u8>, PixelError> {
        let object = &self.image.object;
        let limits = head_limits(&self.image.limits);
        let converted;
        let head = if object.encoding() == Encoding::ExplicitLittle {
            &object.head
        } else {
            let mut converter = Converter::from_encoding(object.encoding(), limits);
            let mut out = Vec::with_capacity(object.head.len() + 1024);
            converter.feed(&object.head, &mut out)?;
            converter.finish(&mut out)?;
            converted = out;
            &converted
        };
        let mut edits = vec![
            Edit::Remove(EXTENDED_OFFSETS),
            Edit::Remove(EXTENDED_LENGTHS),
        ];
        let set = DataSet::parse(head, Encoding::ExplicitLittle, limits)?;
        let elements = set.elements();
        let shape = self.image.shape();
        if first.photometric != shape.photometric {
            edits.push(Edit::Set {
                tag: PHOTOMETRIC_INTERPRETATION,
                vr: VR::CS,
                value: first.photometric.as_str().as_bytes().to_vec(),
            });
        }
        if shape.samples > 1 {
            edits.push(Edit::Set {
                tag: PLANAR_CONFIGURATION,
                vr: VR::US,
                value: u16::from(first.planar).to_le_bytes().to_vec(),
            });
        }
        let compressed_icon = elements.items(ICON_IMAGE_SEQUENCE).any(|icon| {
            icon.iter()
                .any(|element| matches!(element.value(), Value::Fragments(_)))
        });
        if compressed_icon {
            edits.push(Edit::Remove(ICON_IMAGE_SEQUENCE));
        }
        if let Some(ratio) = ratio {
            let more = |tag, vr, value: &str| Edit::Set {
                tag,
                vr,
                value: appended(elements, tag, value).into_bytes(),
            };
            edits.push(Edit::Set {
                tag: LOSSY,
                vr: VR::CS,
                value: b"01".to_vec(),
            });
            edits.push(more(LOSSY_RATIO, VR::DS, &ratio));
            edits.push(more(LOSSY_METHOD, VR::CS, "ISO_10918_1"));
        }
        edits.extend_from_slice(&self.options.edits);
        Ok(edit_head(head, &edits, limits)?)
    }

    /// The elements after the pixels.
    fn rest<W: Write>(&self, out: &mut W) -> Result<(), PixelError> {
        let object = &self.image.object;
        let at = self.image.index().end();
        if object.encoding() == Encoding::ExplicitLittle {
            return copy(&object.bytes, at, out);
        }
        convert_from(object, at, Vec::new(), &self.image.limits, out)
    }
}

/// The values of an element with one more.
fn appended(elements: Elements<'_>, tag: Tag, value: &str) -> String {
    let mut values = elements.strings(tag, &CharacterSet::default());
    values.push(value.to_owned());
    values.join("\\")
}

/// Plane after plane to pixel after pixel.
pub(super) fn by_pixel(mut frame: Frame) -> Frame {
    frame.samples = jpegls::interleave(
        &frame.samples,
        usize::from(frame.shape.samples),
        usize::from(frame.shape.sample_bytes()),
    );
    frame.shape.planar = false;
    frame
}

fn put_pixel_header(out: &mut Vec<u8>, vr: VR, length: u32) {
    out.extend_from_slice(&[0xE0, 0x7F, 0x10, 0x00]);
    out.extend_from_slice(&vr.to_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&length.to_le_bytes());
}

fn put_item(out: &mut Vec<u8>, length: u32) {
    out.extend_from_slice(&[0xFE, 0xFF, 0x00, 0xE0]);
    out.extend_from_slice(&length.to_le_bytes());
}

#[cfg(test)]
mod tests;
