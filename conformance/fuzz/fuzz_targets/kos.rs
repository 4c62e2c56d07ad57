//! A KOS from outside, in every encoding: read within its limits, or refused; what was read is of one
//! study, each instance once, and shows nothing of the patient when it is printed.
#![no_main]

use std::collections::HashSet;

use drimbox::dicom::kos::{Kos, KosLimits};
use drimbox::dicom::part10::file_meta;
use drimbox::dicom::uid::{InstanceUid, SopClassUid, TransferSyntaxUid};
use libfuzzer_sys::fuzz_target;

const SYNTAXES: [&str; 4] = [
    "1.2.840.10008.1.2",
    "1.2.840.10008.1.2.1",
    "1.2.840.10008.1.2.2",
    "1.2.840.10008.1.2.1.99",
];

fuzz_target!(|input: &[u8]| {
    let limits = KosLimits {
        bytes: 1 << 20,
        series: 20,
        instances: 200,
        references: 100,
        text: 1 << 10,
    };
    // The bytes as a whole file, and as the data set of one.
    let _ = Kos::parse_within(input, &limits);
    let Some((choice, data)) = input.split_first() else {
        return;
    };
    let class = SopClassUid::parse("1.2.840.10008.5.1.4.1.1.88.59").expect("a UID");
    let instance = InstanceUid::parse("1.2.3").expect("a UID");
    let syntax = SYNTAXES[usize::from(*choice) % SYNTAXES.len()];
    let syntax = TransferSyntaxUid::parse(syntax).expect("a UID");
    let file = [file_meta(&class, &instance, &syntax), data.to_vec()].concat();
    let Ok(kos) = Kos::parse_within(&file, &limits) else {
        return;
    };
    assert!(kos.series.len() <= limits.series);
    assert!((1..=limits.instances).contains(&kos.instance_count()));
    assert!(kos.content.len() <= limits.references);
    let all = kos.series.iter().flat_map(|series| &series.instances);
    let mut seen = HashSet::new();
    assert!(all.into_iter().all(|one| seen.insert(&one.instance)));
    let series: HashSet<_> = kos.series.iter().map(|one| &one.series).collect();
    assert_eq!(series.len(), kos.series.len());
    let printed = format!("{:?}", kos.patient);
    assert_eq!(printed, "KosPatient(…)");
    let _ = (
        kos.purpose(),
        kos.accessions(),
        kos.key_image_notes().count(),
    );
});
