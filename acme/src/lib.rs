//! The life of one market certificate over ACME (RFC 8555): order, HTTP-01, renewal, revocation.
//!
//! Nothing calls this library yet. It will take a key store, an HTTP client and a clock as arguments,
//! and will know nothing of DICOM nor of the gateway's configuration.
