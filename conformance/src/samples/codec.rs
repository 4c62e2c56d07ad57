//! Compressed pixels, made by the reference encoders of DCMTK and GDCM.
//!
//! Only the code streams and the image pixel attributes are taken from an encoder's output: every
//! other element of a sample stays as the generator wrote it.

use std::io;
use std::path::Path;
use std::process::Command;

use dicom_core::Tag;
use dicom_core::header::Header;
use dicom_dictionary_std::{tags, uids};
use dicom_object::open_file;

use super::Error;
use super::dataset::DataSet;
use super::part10::{self, Pixels};

/// An encoder run as a child process.
struct Encoder {
    tool: &'static str,
    /// Debian package that holds the tool.
    package: &'static str,
    options: &'static [&'static str],
    environment: Option<(&'static str, &'static str)>,
}

/// Compresses native pixels into one code stream per frame and updates the image pixel attributes
/// (photometric interpretation, lossy compression…) of the data set.
///
/// Temporary files go into a folder of their own in `folder` and are removed.
pub(super) fn encode(
    transfer_syntax: &str,
    dataset: &mut DataSet,
    native: Vec<u8>,
    folder: &Path,
) -> Result<Vec<Vec<u8>>, Error> {
    let encoder = encoder(transfer_syntax).ok_or_else(|| Error::NoEncoder {
        transfer_syntax: transfer_syntax.to_owned(),
    })?;
    let scratch = tempfile::tempdir_in(folder).map_err(|source| Error::io(folder, source))?;
    let source = scratch.path().join("native.dcm");
    let target = scratch.path().join("encoded.dcm");
    let mut image = DataSet::new_empty();
    for element in dataset
        .iter()
        .filter(|element| describes_pixels(element.tag()))
    {
        image.put(element.clone());
    }
    let mut native = Pixels::Native(native);
    part10::write_file(
        &source,
        &image,
        uids::EXPLICIT_VR_LITTLE_ENDIAN,
        &mut native,
    )?;
    encoder.run(&source, &target)?;
    let encoded = open_file(&target).map_err(|error| Error::dicom(&target, error))?;
    let mut frames = Vec::new();
    for element in encoded.into_inner() {
        if element.tag() == tags::PIXEL_DATA {
            frames = element
                .into_value()
                .into_fragments()
                .map(|fragments| fragments.into_vec())
                .unwrap_or_default();
        } else if element.tag().group() == 0x0028 {
            dataset.put(element);
        }
    }
    if frames.is_empty() {
        return Err(Error::dicom(&target, "the encoder wrote no code stream"));
    }
    Ok(frames)
}

/// The attributes an encoder needs.
fn describes_pixels(tag: Tag) -> bool {
    tag.group() == 0x0028 || tag == tags::SOP_CLASS_UID || tag == tags::SOP_INSTANCE_UID
}

fn encoder(transfer_syntax: &str) -> Option<Encoder> {
    let (tool, options): (_, &'static [&'static str]) = match transfer_syntax {
        uids::RLE_LOSSLESS => ("dcmcrle", &[]),
        uids::JPEG_BASELINE8_BIT => ("dcmcjpeg", &["+eb", "+un"]),
        uids::JPEG_EXTENDED12_BIT => ("dcmcjpeg", &["+ee", "+un"]),
        uids::JPEG_LOSSLESS => ("dcmcjpeg", &["+el", "+un"]),
        uids::JPEG_LOSSLESS_SV1 => ("dcmcjpeg", &["+e1", "+un"]),
        uids::JPEGLS_LOSSLESS => ("dcmcjpls", &["+el", "+un"]),
        uids::JPEGLS_NEAR_LOSSLESS => ("dcmcjpls", &["+en", "+un"]),
        uids::JPEG2000_LOSSLESS => ("gdcmconv", &["--j2k"]),
        uids::JPEG2000 => ("gdcmconv", &["--j2k", "--lossy", "-r", "8"]),
        _ => return None,
    };
    let package = if tool == "gdcmconv" {
        "libgdcm-tools"
    } else {
        "dcmtk"
    };
    // DCMTK reads its whole dictionary, which takes longer than to compress an image. Lossless JPEG-LS,
    // the syntax of most samples, needs nothing from it: lossy syntaxes do, for the attributes they add.
    let environment =
        (transfer_syntax == uids::JPEGLS_LOSSLESS).then_some(("DCMDICTPATH", "/dev/null"));
    Some(Encoder {
        tool,
        package,
        options,
        environment,
    })
}

impl Encoder {
    fn run(&self, source: &Path, target: &Path) -> Result<(), Error> {
        let output = Command::new(self.tool)
            .envs(self.environment)
            .args(self.options)
            .args([source, target])
            .output()
            .map_err(|source| match source.kind() {
                io::ErrorKind::NotFound => Error::MissingTool {
                    tool: self.tool,
                    package: self.package,
                },
                _ => Error::io(Path::new(self.tool), source),
            })?;
        if output.status.success() && target.exists() {
            return Ok(());
        }
        Err(Error::ToolFailed {
            tool: self.tool,
            status: output.status,
            message: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::path::Path;

    use super::{Encoder, Error};

    #[test]
    fn a_missing_encoder_is_reported_with_its_package() {
        let encoder = Encoder {
            tool: "encoder-that-is-not-installed",
            package: "dcmtk",
            options: &[],
            environment: None,
        };
        let error = encoder.run(Path::new("in"), Path::new("out")).unwrap_err();
        assert!(matches!(
            error,
            Error::MissingTool {
                package: "dcmtk",
                ..
            }
        ));
        assert!(error.to_string().contains("apt-get install dcmtk"));
    }
}
