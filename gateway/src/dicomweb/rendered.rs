//! Pictures of an instance or of one frame (PS3.18 §10.4.1.1.4): what is asked of them in the query
//! (§8.3.5), in which format they go out, and how they are made.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, WARNING};
use http::{HeaderMap, HeaderValue};

use super::accept::{Accept, MediaRange, MediaType, Weight};
use super::answer::{no_store, open_one, value};
use super::conditional::Variant;
use super::documents::{self, Kind};
use super::frames::{Image, failed};
use super::pictures::{self, Source};
use super::problem::Problem;
use super::query;
use super::service::Call;
use super::status::no_resource;
use crate::archive::Scope;
use crate::pixels::pool::{Pool, PoolError};
use crate::pixels::render::{
    PictureFormat, Region, RenderOptions, Viewport, VoiFunction, Window, memory, render,
    representative_frame,
};

/// Quality of a JPEG picture where the client names none.
const QUALITY: u8 = 90;
/// Pixels along one side of a picture.
const MAX_SIDE: u16 = 8192;
/// Pixels along one side of a thumbnail.
const THUMBNAIL: u16 = 256;

/// Answers a request for pictures: of one frame as it is, of several as the parts of one answer. Frames
/// are numbered from 1; none are named for a study, a series, or the frame that stands for an instance.
///
/// # Errors
/// A problem.
pub async fn answer(
    call: &Call<'_>,
    scope: Scope,
    frames: &[u32],
    thumbnail: bool,
) -> Result<Response, Problem> {
    let query = call.uri.query().unwrap_or_default();
    let asked = Asked::parse(query, &call.accept, thumbnail);
    // What is no image has formats of its own, which only the object tells.
    let may_be_document = scope.instance().is_some() && frames.is_empty() && !thumbnail;
    if !may_be_document && let Err(problem) = asked {
        return Err(problem);
    }
    let scope = if thumbnail {
        pictures::representative(call, scope).await?
    } else {
        scope
    };
    let batches = open_one(call, &scope).await?;
    let kind = batches.first().first().and_then(Kind::of);
    if may_be_document && let Some(kind) = kind {
        return documents::answer(call, kind, batches).await;
    }
    let asked = asked?;
    if scope.instance().is_none() {
        return pictures::answer(call, Source::items(batches), asked).await;
    }
    let item = batches.first().first().ok_or_else(no_resource)?;
    let frame_text = format!("{frames:?} {thumbnail} {}", asked.multipart);
    let variant = Variant::of(Some(std::slice::from_ref(item)))
        .map(|variant| variant.with(&[asked.media_type(), query, &frame_text]));
    if let Some(unchanged) = call.unchanged(variant.as_ref()) {
        return Ok(unchanged);
    }
    let image = call.service.images.open(item).await?;
    let mut numbers = frames.iter().map(|number| number.saturating_sub(1));
    let beyond = numbers
        .clone()
        .find(|number| *number >= image.index().frames());
    if beyond.is_none() && !thumbnail && (asked.multipart || frames.len() > 1) {
        let numbers: Vec<u32> = match frames {
            [] => vec![representative_frame(&image).map_err(|error| failed(error.into()))?],
            _ => numbers.collect(),
        };
        return pictures::answer(call, Source::frames(image, numbers, batches), asked).await;
    }
    let frame = beyond.or_else(|| numbers.next());
    let picture = picture(&call.service.pixels, &image, frame, asked)
        .await
        .map_err(failed)?;
    let mut answer = Response::new(Body::from(picture));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(asked.media_type()));
    asked.left_out.tell(headers);
    no_store(headers);
    if let Some(variant) = &variant {
        variant.put(headers);
    }
    Ok(answer)
}

/// What a client asks of a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Asked {
    /// Window and size.
    pub options: RenderOptions,
    /// File format.
    pub format: PictureFormat,
    /// Whether the client takes the format in parts only.
    pub multipart: bool,
    /// What was asked for and is not done.
    pub left_out: LeftOut,
}

/// What is not done of what was asked: the answer says so (PS3.18 §8.3.5.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LeftOut {
    /// `annotation=patient`.
    pub patient: bool,
    /// `annotation=technique`.
    pub technique: bool,
    /// `iccprofile` other than `no`.
    pub icc_profile: bool,
}

impl LeftOut {
    /// Adds a `Warning` for what is not done.
    pub fn tell(self, headers: &mut HeaderMap) {
        let values = [(self.patient, "patient"), (self.technique, "technique")];
        let values: Vec<&str> = values
            .into_iter()
            .filter_map(|(asked, name)| asked.then_some(name))
            .collect();
        if !values.is_empty() {
            let values = values.join(", ");
            headers.append(
                WARNING,
                value(&format!(
                    "299 drimbox \"The following annotation values are not supported: {values}\""
                )),
            );
        }
        if self.icc_profile {
            let text = "299 drimbox \"The iccprofile parameter is not supported.\"";
            headers.append(WARNING, HeaderValue::from_static(text));
        }
    }

    /// Reads `annotation`: keywords, one at least.
    fn annotations(&mut self, text: &str) -> Result<(), Problem> {
        for keyword in text.split(',').take(8) {
            match keyword.trim() {
                "patient" => self.patient = true,
                "technique" => self.technique = true,
                _ => return Err(malformed("annotation")),
            }
        }
        Ok(())
    }
}

impl Asked {
    /// Reads the query and what is accepted. Parameters that are unknown, or not supported, are left out
    /// (PS3.18 §8.3); `charset` is without meaning for pictures.
    ///
    /// # Errors
    /// 400 for a parameter that is malformed; 406 for other formats.
    pub fn parse(raw: &str, accept: &Accept, thumbnail: bool) -> Result<Self, Problem> {
        let mut options = RenderOptions::default();
        let mut quality = QUALITY;
        let mut left_out = LeftOut::default();
        for (name, value) in query::pairs(raw)? {
            match name.as_str() {
                "window" => options.window = Some(window(&value)?),
                "viewport" => options.viewport = Some(viewport(&value)?),
                "quality" => quality = number(&value, 1..=100, "quality")?,
                "annotation" if !thumbnail => left_out.annotations(&value)?,
                "iccprofile" if !thumbnail => left_out.icc_profile = value != "no",
                _ => {}
            }
        }
        // Of a thumbnail width and height only (PS3.18 §8.3.5.1.3).
        if thumbnail
            && options
                .viewport
                .is_some_and(|viewport| viewport.region.is_some())
        {
            return Err(malformed("viewport"));
        }
        if thumbnail && options.viewport.is_none() {
            options.viewport = Some(Viewport {
                width: THUMBNAIL,
                height: THUMBNAIL,
                region: None,
            });
        }
        let format = format(accept, quality)?;
        let mut asked = Self {
            options,
            format,
            multipart: false,
            left_out,
        };
        let kind = asked.media_type();
        let takes = |entry: &&MediaRange| entry.weight > Weight::NONE && covers(entry, kind, true);
        let mut taking = accept.entries.iter().filter(takes).peekable();
        asked.multipart =
            taking.peek().is_some() && !taking.any(|entry| covers(entry, kind, false));
        Ok(asked)
    }

    /// The value of `Content-Type`.
    #[must_use]
    pub fn media_type(&self) -> &'static str {
        match self.format {
            PictureFormat::Jpeg { .. } => "image/jpeg",
            PictureFormat::Png => "image/png",
        }
    }
}

/// Makes the picture of a frame (from 0), or of the one that stands for the image.
///
/// # Errors
/// [`PoolError`].
pub async fn picture(
    pool: &Pool,
    image: &Image,
    frame: Option<u32>,
    asked: Asked,
) -> Result<Bytes, PoolError> {
    let needed = memory(image.shape(), asked.options.viewport.as_ref());
    let image = Image::clone(image);
    let made = pool.run(needed, move || {
        let frame = match frame {
            Some(frame) => frame,
            None => representative_frame(&image)?,
        };
        render(&image, frame, &asked.options)?.encode(asked.format)
    });
    made.await.map(Bytes::from)
}

/// Whether an entry takes pictures of this media type: as they are, or, with `parts`, as the parts of
/// an answer too.
fn covers(entry: &MediaRange, kind: &str, parts: bool) -> bool {
    let Some((main, sub)) = kind.split_once('/') else {
        return false;
    };
    let within = |range: &MediaType| range.covers(main, sub);
    within(&entry.media)
        || (parts
            && entry.media.covers("multipart", "related")
            && entry.parts.as_ref().is_none_or(within))
}

fn format(accept: &Accept, quality: u8) -> Result<PictureFormat, Problem> {
    let weight = |sub| {
        if accept.entries.is_empty() {
            return Some(Weight::BEST);
        }
        let kind = format!("image/{sub}");
        let covering = accept.entries.iter().filter(|e| covers(e, &kind, true));
        covering
            .map(|entry| {
                let range = entry.parts.as_ref().unwrap_or(&entry.media);
                (range.precision(), entry.weight)
            })
            .max()
            .map(|(_, weight)| weight)
            .filter(|weight| *weight > Weight::NONE)
    };
    match (weight("jpeg"), weight("png")) {
        (None, None) => Err(Problem::not_acceptable(
            "pictures are not offered in a format that the client accepts",
            "ask for Accept: image/jpeg or image/png",
        )),
        (jpeg, Some(png)) if jpeg.is_none_or(|jpeg| png > jpeg) => Ok(PictureFormat::Png),
        _ => Ok(PictureFormat::Jpeg { quality }),
    }
}

/// `center,width` and, where it is not LINEAR, the function (PS3.18 §8.3.5.1.4).
fn window(text: &str) -> Result<Window, Problem> {
    let parts: Vec<&str> = text.split(',').take(4).collect();
    let (center, width, function) = match parts.as_slice() {
        [center, width] => (center, width, VoiFunction::Linear),
        [center, width, function] => (
            center,
            width,
            match function.to_ascii_lowercase().as_str() {
                "linear" => VoiFunction::Linear,
                "linear-exact" => VoiFunction::LinearExact,
                "sigmoid" => VoiFunction::Sigmoid,
                _ => return Err(malformed("window")),
            },
        ),
        _ => return Err(malformed("window")),
    };
    let window = Window {
        center: float(center, "window")?,
        width: float(width, "window")?,
        function,
    };
    if window.is_valid() {
        Ok(window)
    } else {
        Err(malformed("window"))
    }
}

/// `width,height` and, where it is not the whole image, the part of it that is shown: `x,y,w,h`, each
/// with a default, and left out at the end (PS3.18 §8.3.5.1.3).
fn viewport(text: &str) -> Result<Viewport, Problem> {
    let mut parts = text.split(',');
    let mut side = || number(parts.next().unwrap_or_default(), 1..=MAX_SIDE, "viewport");
    let (width, height) = (side()?, side()?);
    let parts: Vec<&str> = parts.take(5).collect();
    if parts.len() > 4 {
        return Err(malformed("viewport"));
    }
    let at = |index: usize| match parts.get(index) {
        None | Some(&"") => Ok(None),
        Some(text) => float(text, "viewport").map(Some),
    };
    // Where the region begins is an absolute value; its width and height reach to the edges unless they
    // are given, and their sign flips the picture.
    let begins = |index| at(index).map(|number| number.unwrap_or(0.0).abs());
    let reaches = |index| match at(index)? {
        Some(0.0) => Err(malformed("viewport")),
        number => Ok(number.unwrap_or(Region::TO_THE_EDGE)),
    };
    let region = Region {
        x: begins(0)?,
        y: begins(1)?,
        width: reaches(2)?,
        height: reaches(3)?,
    };
    Ok(Viewport {
        width,
        height,
        region: (!parts.is_empty()).then_some(region),
    })
}

fn number<T: std::str::FromStr + PartialOrd>(
    text: &str,
    range: std::ops::RangeInclusive<T>,
    name: &'static str,
) -> Result<T, Problem> {
    text.parse()
        .ok()
        .filter(|number| range.contains(number))
        .ok_or_else(|| malformed(name))
}

fn float(text: &str, name: &'static str) -> Result<f64, Problem> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite())
        .ok_or_else(|| malformed(name))
}

fn malformed(name: &'static str) -> Problem {
    Problem::bad_request(
        format!("the parameter {name} is malformed"),
        "write window=center,width[,linear|linear-exact|sigmoid], viewport=width,height[,x,y,w,h], quality=1..100, annotation=patient,technique",
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn asked(query: &str, accept: &str) -> Result<Asked, u16> {
        let accept = Accept::parse((!accept.is_empty()).then_some(accept)).unwrap();
        Asked::parse(query, &accept, false).map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn the_query_becomes_options() {
        let asked = asked(
            "window=40,400,sigmoid&viewport=100,50,1,2,30,40&quality=7",
            "",
        )
        .unwrap();
        let window = asked.options.window.unwrap();
        assert_eq!((window.center, window.width), (40.0, 400.0));
        assert_eq!(window.function, VoiFunction::Sigmoid);
        let viewport = asked.options.viewport.unwrap();
        assert_eq!((viewport.width, viewport.height), (100, 50));
        assert_eq!(viewport.region.unwrap().height, 40.0);
        assert_eq!(asked.format, PictureFormat::Jpeg { quality: 7 });
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for query in [
            "window=40",
            "window=40,0",
            "window=a,b",
            "window=1,2,3",
            "window=NaN,1",
            "viewport=0,5",
            "viewport=5",
            "viewport=9000,5",
            "viewport=,5",
            "viewport=5,",
            "viewport=1.5,5",
            "viewport=1,2,a",
            "viewport=1,2,3,4,5,6,7",
            "viewport=1,2,3,4,0,6",
            "viewport=1,2,,,NaN,6",
            "quality=0",
            "quality=101",
            "quality=",
            "annotation=",
            "annotation=patient,",
            "annotation=everything",
        ] {
            assert_eq!(asked(query, "").err(), Some(400), "{query}");
        }
    }

    #[test]
    fn pieces_of_a_viewport_that_are_left_out_have_their_defaults() {
        const EDGE: f64 = Region::TO_THE_EDGE;
        for (text, expected) in [
            ("512,512", None),
            // The example of the standard.
            ("512,512,,,512,512", Some([0.0, 0.0, 512.0, 512.0])),
            ("512,512,10,10", Some([10.0, 10.0, EDGE, EDGE])),
            ("1,2,3", Some([3.0, 0.0, EDGE, EDGE])),
            ("1,2,,5", Some([0.0, 5.0, EDGE, EDGE])),
            ("1,2,,,7", Some([0.0, 0.0, 7.0, EDGE])),
            ("1,2,,,-7,-.5", Some([0.0, 0.0, -7.0, -0.5])),
            ("1,2,-3,-4,,6", Some([3.0, 4.0, EDGE, 6.0])),
        ] {
            let asked = asked(&format!("viewport={text}"), "").unwrap();
            let region = asked.options.viewport.unwrap().region;
            let region = region.map(|at| [at.x, at.y, at.width, at.height]);
            assert_eq!(region, expected, "{text}");
        }
    }

    #[test]
    fn a_thumbnail_is_of_the_whole_image() {
        let of = |query| Asked::parse(query, &Accept::default(), true);
        let small = of("viewport=64,64").unwrap().options.viewport.unwrap();
        assert_eq!((small.width, small.height, small.region), (64, 64, None));
        for query in [
            "viewport=64,64,1,1,9,9",
            "viewport=64,64,,,9,9",
            "viewport=64,64,1",
        ] {
            assert_eq!(of(query).unwrap_err().status().as_u16(), 400, "{query}");
        }
    }

    #[test]
    fn what_is_not_supported_is_left_out_and_told() {
        let warnings = |query: &str| {
            let mut headers = HeaderMap::new();
            asked(query, "").unwrap().left_out.tell(&mut headers);
            let texts = headers.get_all(WARNING).iter();
            let texts: Vec<String> = texts
                .map(|text| text.to_str().unwrap().to_owned())
                .collect();
            texts
        };
        for query in [
            "charset=UTF-8",
            "iccprofile=no",
            "unheard=of",
            "accept=image/png",
        ] {
            assert_eq!(warnings(query), Vec::<String>::new(), "{query}");
        }
        let annotations = "299 drimbox \"The following annotation values are not supported: ";
        assert_eq!(
            warnings("annotation=patient"),
            [format!("{annotations}patient\"")]
        );
        assert_eq!(
            warnings("annotation=technique,patient&iccprofile=srgb"),
            [
                format!("{annotations}patient, technique\""),
                "299 drimbox \"The iccprofile parameter is not supported.\"".to_owned(),
            ]
        );
    }

    #[test]
    fn the_format_is_the_one_the_client_prefers() {
        let jpeg = PictureFormat::Jpeg { quality: QUALITY };
        for (accept, format) in [
            ("", jpeg),
            ("*/*", jpeg),
            ("image/*", jpeg),
            ("image/png", PictureFormat::Png),
            ("image/jpeg;q=0.5, image/png", PictureFormat::Png),
        ] {
            assert_eq!(asked("", accept).unwrap().format, format, "{accept}");
        }
        let parts = "multipart/related; type=\"image/png\"";
        let only = asked("", parts).unwrap();
        assert_eq!((only.format, only.multipart), (PictureFormat::Png, true));
        let both = asked("", &format!("{parts}, image/png")).unwrap();
        assert_eq!((both.format, both.multipart), (PictureFormat::Png, false));
        assert!(!asked("", "").unwrap().multipart && !asked("", "*/*").unwrap().multipart);
        assert_eq!(asked("", "image/gif").err(), Some(406));
        assert_eq!(asked("", "image/jpeg;q=0").err(), Some(406));
    }
}
