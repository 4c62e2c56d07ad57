//! PDUs of the upper layer and the command sets in them.
#![no_main]

use std::collections::VecDeque;

use bytes::Bytes;
use drimbox::archive::dimse::command::Command;
use drimbox::archive::dimse::upper_layer::{cut_pdvs, parse_control};
use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: {
        // A panic that the code under test catches is not a finding; one that leaves it aborts.
        std::panic::set_hook(Box::new(|_| {}));
    },
    |input: &[u8]| {
    let Some((kind, body)) = input.split_first() else { return };
    let _ = parse_control(*kind, body);
    let mut pdvs = VecDeque::new();
    if cut_pdvs(Bytes::copy_from_slice(body), &mut pdvs).is_ok() {
        let cut: usize = pdvs.iter().map(|pdv| pdv.data.len() + 6).sum();
        assert_eq!(cut, body.len(), "pieces and headers are the whole PDU");
    }
    if let Ok(command) = Command::decode(body) {
        assert_eq!(Command::decode(&command.encode()), Ok(command));
    }
}
);
