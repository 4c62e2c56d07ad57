//! What a panic leaves in the logs. Alone in its process: the panic hook is global.
#![allow(clippy::unwrap_used, clippy::panic)]

use drimbox::config::{Log, LogFormat};

const SECRET: &str = "DUPONT^MARIE";
const CHILD: &str = "DRIMBOX_TEST_PANIC_CHILD";

#[test]
fn a_panic_is_logged_with_its_place_and_without_its_message() {
    if std::env::var_os(CHILD).is_some() {
        let log = Log {
            format: LogFormat::Json,
            filter: "info".to_owned(),
        };
        drimbox::telemetry::init(&log).unwrap();
        panic!("{SECRET}");
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .arg("--nocapture")
        .env(CHILD, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&child.stderr);
    assert!(!child.status.success());
    assert!(text.contains("panics_stay_discreet.rs"), "{text}");
    assert!(!text.contains(SECRET), "{text}");
}
