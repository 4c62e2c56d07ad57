//! The parts of an answer with whatever location and content: the fields of a part end where they
//! should, and the length that is announced is the length that is sent.
#![no_main]

use drimbox::dicom::uid::TransferSyntaxUid;
use drimbox::dicomweb::multipart::{Boundary, DICOM, PartHeader};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let syntax = TransferSyntaxUid::parse("1.2.840.10008.1.2.4.80").expect("a UID");
    let parts: Vec<(String, &[u8])> = input
        .split(|byte| *byte == 0)
        .map(|part| {
            let (location, content) = part.split_at(part.len() / 2);
            (String::from_utf8_lossy(location).into_owned(), content)
        })
        .collect();
    let header = |part: usize| PartHeader {
        media_type: DICOM,
        transfer_syntax: &syntax,
        location: Some(parts[part].0.as_str()),
    };
    let boundary = Boundary::random();
    let mut sent = Vec::new();
    for (number, (location, content)) in parts.iter().enumerate() {
        let fields = boundary.open(&header(number), number == 0);
        let text = std::str::from_utf8(&fields).expect("fields are ASCII");
        let text = text.trim_start_matches("\r\n");
        let end = text.find("\r\n\r\n").expect("an empty line after the fields");
        assert_eq!(end + 4, text.len(), "a location ended the fields: {location:?}");
        let lines: Vec<&str> = text.trim_end().split("\r\n").collect();
        assert!(lines.len() <= 3, "a location became a field: {location:?}");
        assert_eq!(lines[0], format!("--{}", boundary.as_str()));
        sent.extend_from_slice(&fields);
        sent.extend_from_slice(content);
    }
    sent.extend_from_slice(&boundary.close());
    let announced = boundary.total_length(
        (0..parts.len()).map(|number| (header(number), parts[number].1.len() as u64)),
    );
    assert_eq!(announced, Some(sent.len() as u64));
});
