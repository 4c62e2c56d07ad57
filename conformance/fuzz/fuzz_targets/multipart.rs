//! The parts of an answer with whatever location and content: the fields of a part end where they
//! should, the length that is announced is the length that is sent, and the reader of other servers'
//! answers finds the same contents. What another server sends is read the same in any pieces.
#![no_main]

use bytes::Bytes;
use drimbox::archive::dicomweb::multipart::{Event, Parts};
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
        transfer_syntax: Some(&syntax),
        location: Some(parts[part].0.as_str()),
    };
    let boundary = Boundary::random();
    let mut sent = Vec::new();
    for (number, (location, content)) in parts.iter().enumerate() {
        let fields = boundary.open(&header(number), number == 0);
        let text = std::str::from_utf8(&fields).expect("fields are ASCII");
        let text = text.trim_start_matches("\r\n");
        let end = text
            .find("\r\n\r\n")
            .expect("an empty line after the fields");
        assert_eq!(
            end + 4,
            text.len(),
            "a location ended the fields: {location:?}"
        );
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

    let pieces = usize::from(input.first().copied().unwrap_or_default()) + 1;
    let read = read(boundary.as_str(), &sent, pieces).expect("a body of ours");
    let contents: Vec<&[u8]> = parts.iter().map(|(_, content)| *content).collect();
    assert_eq!(read, (contents.iter().map(|c| c.to_vec()).collect(), true));

    let foreign = [b"--b\r\n", input].concat();
    let whole = self::read("b", &foreign, usize::MAX);
    assert_eq!(self::read("b", &foreign, pieces), whole);
});

/// The contents of the parts that are whole, and whether the body ended; `None` for a body that is
/// refused.
fn read(boundary: &str, body: &[u8], pieces: usize) -> Option<(Vec<Vec<u8>>, bool)> {
    let mut parts = Parts::new(boundary).ok()?;
    let (mut contents, mut current) = (Vec::new(), Vec::new());
    for piece in body.chunks(pieces) {
        parts.push(Bytes::copy_from_slice(piece));
        while let Some(event) = parts.event().ok()? {
            match event {
                Event::Part => current.clear(),
                Event::Content(bytes) => current.extend_from_slice(&bytes),
                Event::PartEnd => contents.push(current.clone()),
                Event::Close => {}
            }
        }
    }
    Some((contents, parts.is_closed()))
}
