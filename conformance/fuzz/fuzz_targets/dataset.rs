//! A data set from outside: every reader must agree on it, whatever the fragments.
#![no_main]

use drimbox::dicom::convert::Converter;
use drimbox::dicom::json::{JsonOptions, write_object};
use drimbox::dicom::path::AttributePath;
use drimbox::dicom::reader::{DataSet, Limits, ReadError};
use drimbox::dicom::scan::{Head, HeadScanner};
use drimbox::dicom::syntax::Encoding;
use drimbox::dicom::uid::TransferSyntaxUid;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&choice, bytes)) = input.split_first() else {
        return;
    };
    let (encoding, syntax) = match choice & 3 {
        0 => (Encoding::ImplicitLittle, "1.2.840.10008.1.2"),
        1 => (Encoding::ExplicitLittle, "1.2.840.10008.1.2.1"),
        2 => (Encoding::ExplicitBig, "1.2.840.10008.1.2.2"),
        _ => (Encoding::DeflatedExplicitLittle, "1.2.840.10008.1.2.1.99"),
    };
    let fragment = usize::from(choice >> 2) + 1;
    let limits = Limits {
        inflated_bytes: 1 << 20,
        ..Limits::default()
    };
    let syntax = TransferSyntaxUid::parse(syntax).expect("a UID");

    let whole = scan(&syntax, limits, bytes, usize::MAX);
    let pieces = scan(&syntax, limits, bytes, fragment);
    assert_eq!(whole.is_ok(), pieces.is_ok(), "{whole:?} {pieces:?}");
    if whole.is_ok() {
        assert_eq!(whole, pieces);
    }

    let parsed = DataSet::parse(bytes, encoding, limits);
    assert_eq!(
        parsed.is_ok(),
        whole.is_ok(),
        "{:?} {whole:?}",
        parsed.as_ref().err()
    );
    let converted = convert(encoding, limits, bytes, usize::MAX);
    assert_eq!(
        converted.is_ok(),
        convert(encoding, limits, bytes, fragment).is_ok()
    );

    let Ok(set) = parsed else { return };
    let bulk = |path: &AttributePath| {
        assert!(path.find(set.elements()).is_some(), "{path} leads nowhere");
        path.to_string()
    };
    for bulk_uri in [None, Some(&bulk as &dyn Fn(&AttributePath) -> String)] {
        let mut json = Vec::new();
        write_object(
            &mut json,
            set.elements(),
            &JsonOptions {
                bulk_uri,
                ..JsonOptions::default()
            },
        );
        let parsed: Result<serde_json::Value, _> = serde_json::from_slice(&json);
        assert!(parsed.is_ok(), "{}", String::from_utf8_lossy(&json));
    }

    if let Ok(converted) = converted {
        let set = DataSet::parse(&converted, Encoding::ExplicitLittle, limits).expect("a data set");
        drop(set);
        let again =
            convert(Encoding::ExplicitLittle, limits, &converted, fragment).expect("a data set");
        assert_eq!(again, converted);
    }
});

fn scan(
    syntax: &TransferSyntaxUid,
    limits: Limits,
    bytes: &[u8],
    fragment: usize,
) -> Result<Head, ReadError> {
    let mut scanner = HeadScanner::new(syntax, limits);
    for fragment in bytes.chunks(fragment) {
        scanner.feed(fragment)?;
    }
    scanner.finish()
}

fn convert(
    encoding: Encoding,
    limits: Limits,
    bytes: &[u8],
    fragment: usize,
) -> Result<Vec<u8>, ReadError> {
    let mut converter = Converter::from_encoding(encoding, limits);
    let mut out = Vec::new();
    for fragment in bytes.chunks(fragment) {
        converter.feed(fragment, &mut out)?;
    }
    converter.finish(&mut out)?;
    Ok(out)
}
