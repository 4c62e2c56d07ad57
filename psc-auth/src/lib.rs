//! Pro Santé Connect: relying party and token checker.
//!
//! Nothing calls this library yet. It will know nothing of DICOM nor of the gateway's configuration.
