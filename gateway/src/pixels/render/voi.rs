//! Modality and VOI transformations (PS3.3 §C.11.1, §C.11.2).

use dicom_core::{Tag, VR};

use crate::dicom::charset::CharacterSet;
use crate::dicom::reader::Elements;
use crate::pixels::shape::ImageShape;

const PIXEL_PADDING_VALUE: Tag = Tag(0x0028, 0x0120);
const PIXEL_PADDING_LIMIT: Tag = Tag(0x0028, 0x0121);
const WINDOW_CENTER: Tag = Tag(0x0028, 0x1050);
const WINDOW_WIDTH: Tag = Tag(0x0028, 0x1051);
const VOI_LUT_FUNCTION: Tag = Tag(0x0028, 0x1056);
const RESCALE_INTERCEPT: Tag = Tag(0x0028, 0x1052);
const RESCALE_SLOPE: Tag = Tag(0x0028, 0x1053);
const MODALITY_LUT_SEQUENCE: Tag = Tag(0x0028, 0x3000);
const LUT_DESCRIPTOR: Tag = Tag(0x0028, 0x3002);
const LUT_DATA: Tag = Tag(0x0028, 0x3006);
const VOI_LUT_SEQUENCE: Tag = Tag(0x0028, 0x3010);
const FRAME_VOI_LUT_SEQUENCE: Tag = Tag(0x0028, 0x9132);
const PIXEL_VALUE_TRANSFORMATION_SEQUENCE: Tag = Tag(0x0028, 0x9145);
const SHARED_GROUPS: Tag = Tag(0x5200, 0x9229);
const PER_FRAME_GROUPS: Tag = Tag(0x5200, 0x9230);

/// VOI LUT Function (0028,1056).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum VoiFunction {
    /// LINEAR, the default (PS3.3 §C.11.2.1.2.1).
    #[default]
    Linear,
    /// LINEAR_EXACT (PS3.3 §C.11.2.1.3.2).
    LinearExact,
    /// SIGMOID (PS3.3 §C.11.2.1.3.1).
    Sigmoid,
}

/// A window of values, in the units that the modality transformation gives.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    /// Window Center (0028,1050).
    pub center: f64,
    /// Window Width (0028,1051).
    pub width: f64,
    /// VOI LUT Function (0028,1056).
    pub function: VoiFunction,
}

impl Window {
    /// True when the numbers make a window: at least 1 wide for LINEAR, more than 0 for the others.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        let least = match self.function {
            VoiFunction::Linear => self.width >= 1.0,
            _ => self.width > 0.0,
        };
        least && self.center.is_finite() && self.width.is_finite()
    }

    /// The value as a fraction of the range of output.
    fn fraction(&self, value: f64) -> f64 {
        let Self { center, width, .. } = *self;
        match self.function {
            VoiFunction::Linear => {
                let (center, width) = (center - 0.5, width - 1.0);
                if value <= center - width / 2.0 {
                    0.0
                } else if value > center + width / 2.0 {
                    1.0
                } else {
                    (value - center) / width + 0.5
                }
            }
            VoiFunction::LinearExact => (value - center) / width + 0.5,
            VoiFunction::Sigmoid => 1.0 / (1.0 + (-4.0 * (value - center) / width).exp()),
        }
    }

    fn read(elements: Elements<'_>) -> Option<Self> {
        let function = elements.text(VOI_LUT_FUNCTION, &CharacterSet::default());
        let window = Self {
            center: decimal(elements, WINDOW_CENTER)?,
            width: decimal(elements, WINDOW_WIDTH)?,
            function: match function.as_deref() {
                Some("LINEAR_EXACT") => VoiFunction::LinearExact,
                Some("SIGMOID") => VoiFunction::Sigmoid,
                _ => VoiFunction::Linear,
            },
        };
        window.is_valid().then_some(window)
    }
}

/// What the object says of the values of one of its frames.
#[derive(Debug)]
pub(super) struct Transform {
    modality: Modality,
    voi: Voi,
    padding: Option<(i64, i64)>,
    /// The range of all values, where there are few.
    full: Option<(f64, f64)>,
}

#[derive(Debug)]
enum Modality {
    Linear { slope: f64, intercept: f64 },
    Table(Table),
}

#[derive(Debug)]
enum Voi {
    None,
    Window(Window),
    Table(Table),
}

/// Values to 8 bits.
pub(super) enum Output<'t> {
    Window(Window),
    Table(&'t Table),
    /// Nothing to tell apart.
    Flat,
}

impl Output<'_> {
    pub(super) fn grey(&self, value: f64) -> u8 {
        let fraction = match self {
            Self::Window(window) => window.fraction(value),
            Self::Table(table) => table.get(value) / table.highest(),
            Self::Flat => 0.0,
        };
        // 0 for what is no number, and within 0 to 255.
        (fraction.clamp(0.0, 1.0) * 255.0).round() as u8
    }
}

impl Transform {
    /// Reads the transformations for a frame (from 0): its own functional groups before those that
    /// all share, these before the data set (PS3.3 §C.7.6.16).
    pub(super) fn read(head: Elements<'_>, frame: u32, shape: &ImageShape) -> Self {
        let groups = || {
            let own = head.items(PER_FRAME_GROUPS).nth(frame as usize);
            own.into_iter().chain(head.items(SHARED_GROUPS).next())
        };
        let modality = groups()
            .filter_map(|group| group.items(PIXEL_VALUE_TRANSFORMATION_SEQUENCE).next())
            .find_map(Modality::read)
            .or_else(|| Modality::read(head))
            .unwrap_or(Modality::Linear {
                slope: 1.0,
                intercept: 0.0,
            });
        let voi = groups()
            .filter_map(|group| group.items(FRAME_VOI_LUT_SEQUENCE).next())
            .find_map(Voi::read)
            .or_else(|| Voi::read(head))
            .unwrap_or(Voi::None);
        let mut transform = Self {
            modality,
            voi,
            padding: padding(head),
            full: None,
        };
        if shape.bits_stored <= 8 {
            let low = super::grey::lowest(shape);
            let high = low + (1_i64 << shape.bits_stored) - 1;
            let ends = [low as f64, high as f64].map(|value| transform.modality(value));
            let [a, b] = ends;
            transform.full = Some((a.min(b), a.max(b)));
        }
        transform
    }

    /// The value after the modality transformation.
    pub(super) fn modality(&self, value: f64) -> f64 {
        match &self.modality {
            Modality::Linear { slope, intercept } => value.mul_add(*slope, *intercept),
            Modality::Table(table) => table.get(value),
        }
    }

    /// True for stored values that are no part of the image (PS3.3 §C.7.5.1.1.2).
    pub(super) fn is_padding(&self, value: i64) -> bool {
        self.padding
            .is_some_and(|(low, high)| (low..=high).contains(&value))
    }

    /// How values become grey: the caller's window, else what the object says, else the whole range:
    /// that of the type up to 8 bits, that of the frame (`range`) above.
    pub(super) fn output(
        &self,
        window: Option<Window>,
        range: impl FnOnce() -> Option<(f64, f64)>,
    ) -> Output<'_> {
        match (window, &self.voi) {
            (Some(window), _) => Output::Window(window),
            (None, Voi::Window(window)) => Output::Window(*window),
            (None, Voi::Table(table)) => Output::Table(table),
            (None, Voi::None) => match self.full.or_else(range) {
                Some((low, high)) if high > low => Output::Window(Window {
                    center: f64::midpoint(low, high),
                    width: high - low,
                    function: VoiFunction::LinearExact,
                }),
                _ => Output::Flat,
            },
        }
    }
}

impl Modality {
    fn read(elements: Elements<'_>) -> Option<Self> {
        if let Some(table) = elements
            .items(MODALITY_LUT_SEQUENCE)
            .next()
            .and_then(Table::read)
        {
            return Some(Self::Table(table));
        }
        let slope = decimal(elements, RESCALE_SLOPE).filter(|slope| *slope != 0.0);
        let intercept = decimal(elements, RESCALE_INTERCEPT);
        if slope.is_none() && intercept.is_none() {
            return None;
        }
        Some(Self::Linear {
            slope: slope.unwrap_or(1.0),
            intercept: intercept.unwrap_or(0.0),
        })
    }
}

impl Voi {
    fn read(elements: Elements<'_>) -> Option<Self> {
        let table = elements.items(VOI_LUT_SEQUENCE).next();
        if let Some(table) = table.and_then(Table::read) {
            return Some(Self::Table(table));
        }
        Window::read(elements).map(Self::Window)
    }
}

/// A look-up table (PS3.3 §C.11.1.1.1, §C.11.2.1.1).
#[derive(Debug)]
pub(super) struct Table {
    first: i64,
    bits: u16,
    values: Vec<u16>,
}

impl Table {
    fn read(item: Elements<'_>) -> Option<Self> {
        let descriptor = item.find(LUT_DESCRIPTOR)?;
        let numbers = descriptor.bytes()?;
        let entries = match descriptor.u16_at(numbers, 0)? {
            0 => 65_536,
            entries => usize::from(entries),
        };
        let first = descriptor.u16_at(numbers, 1)?;
        let bits = descriptor.u16_at(numbers, 2)?;
        let data = item.find(LUT_DATA)?;
        let bytes = data.bytes()?;
        // Tables of 8 bits may be packed.
        let values: Vec<u16> = if bytes.len() < entries * 2 {
            bytes.iter().take(entries).map(|b| u16::from(*b)).collect()
        } else {
            (0..entries)
                .map_while(|at| data.u16_at(bytes, at))
                .collect()
        };
        (!values.is_empty()).then_some(Self {
            first: if descriptor.vr() == VR::SS {
                i64::from(first.cast_signed())
            } else {
                i64::from(first)
            },
            bits: bits.clamp(1, 16),
            values,
        })
    }

    /// Values below the first entry are mapped to it, those above the last to that one.
    fn get(&self, value: f64) -> f64 {
        let last = self.values.len() - 1;
        let at = value.round() as i64;
        let at = usize::try_from(at.saturating_sub(self.first)).unwrap_or(0);
        f64::from(self.values.get(at.min(last)).copied().unwrap_or(0))
    }

    fn highest(&self) -> f64 {
        f64::from(u16::MAX >> (16 - self.bits))
    }
}

fn decimal(elements: Elements<'_>, tag: Tag) -> Option<f64> {
    let text = elements.text(tag, &CharacterSet::default())?;
    text.trim()
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
}

fn padding(head: Elements<'_>) -> Option<(i64, i64)> {
    let number = |tag| {
        let element = head.find(tag)?;
        let word = element.u16_at(element.bytes()?, 0)?;
        Some(if element.vr() == VR::SS {
            i64::from(word.cast_signed())
        } else {
            i64::from(word)
        })
    };
    let value = number(PIXEL_PADDING_VALUE)?;
    let limit = number(PIXEL_PADDING_LIMIT).unwrap_or(value);
    Some((value.min(limit), value.max(limit)))
}
