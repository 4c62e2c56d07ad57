//! Upstreams that hold images: one trait, [`Archive`], whatever the protocol behind it.
//!
//! An archive finds, retrieves and stores; it decides nothing about who may see what, keeps no
//! image, and knows neither HTTP nor the cache. `dimse` is a PACS spoken to with DIMSE services;
//! a DICOMweb upstream and peer DRIMboxes stand behind the same trait.
