//! Free TCP ports on loopback.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use super::KitError;

/// First port handed out, and how many follow. The range lies below the one from which Linux takes
/// the ports of outgoing connections (32768 on), so that a port stays free between the moment it
/// is chosen and the moment a child process listens on it.
const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// Chooses a port of loopback on which nobody listens; every call of a process gives another one.
///
/// # Errors
/// When no port of the range is free.
pub fn free_port() -> Result<u16, KitError> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes that run side by side start at different places.
    let start = std::process::id().wrapping_mul(7_919);
    for _ in 0..COUNT {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + start.wrapping_add(step) % COUNT;
        let port = u16::try_from(port).unwrap_or(u16::MAX);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(KitError::Invalid {
        what: "loopback".into(),
        reason: format!("no free port from {FIRST} to {}", FIRST + COUNT),
    })
}
