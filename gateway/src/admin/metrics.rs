//! The metrics of the gateway: their names, their units, the Prometheus form.
//!
//! The parts of the gateway record through the `metrics` macros; [`METRICS`] is the list of what
//! they record, which `docs/metrics.md` explains.

use std::time::Duration;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Bounds of the buckets of every `*_seconds` histogram: from an image in memory to a whole study
/// from a slow PACS.
const SECONDS: [f64; 18] = [
    0.001, 0.002_5, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0, 300.0, 900.0,
];

/// How often samples are moved out of the recording side, so that memory stays bounded on a box
/// that nobody scrapes.
const UPKEEP: Duration = Duration::from_secs(5);

/// What a metric measures over time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// A present value.
    Gauge,
    /// A distribution.
    Histogram,
}

/// One metric of the gateway.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Name, with its unit at the end where it has one.
    pub name: &'static str,
    /// What it measures over time.
    pub kind: Kind,
    /// One line for `# HELP`.
    pub help: &'static str,
}

/// The Prometheus side of the process.
#[derive(Debug, Clone)]
pub struct Metrics(PrometheusHandle);

impl Metrics {
    /// Starts recording for the whole process. Call it once, before anything is recorded.
    ///
    /// # Errors
    ///
    /// [`BuildError::FailedToSetGlobalRecorder`] when something else records already.
    pub fn install() -> Result<Self, BuildError> {
        let handle = builder()?.install_recorder()?;
        describe();
        Ok(Self(handle))
    }

    /// A recorder of its own, for `metrics::with_local_recorder`.
    #[cfg(test)]
    pub(super) fn detached() -> (Self, metrics_exporter_prometheus::PrometheusRecorder) {
        let recorder = builder().unwrap_or_default().build_recorder();
        metrics::with_local_recorder(&recorder, describe);
        (Self(recorder.handle()), recorder)
    }

    /// Everything recorded so far, in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps the memory of the recorder bounded; never returns. Run it beside the service.
    pub async fn upkeep(self) {
        let mut ticks = tokio::time::interval(UPKEEP);
        loop {
            ticks.tick().await;
            self.0.run_upkeep();
        }
    }
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    let seconds = Matcher::Suffix("_seconds".to_owned());
    PrometheusBuilder::new().set_buckets_for_metric(seconds, &SECONDS)
}

fn describe() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, metric.help),
            Kind::Gauge => metrics::describe_gauge!(metric.name, metric.help),
            Kind::Histogram => metrics::describe_histogram!(metric.name, metric.help),
        }
    }
}

/// Every metric the gateway records, in the order of `docs/metrics.md`.
pub const METRICS: &[Metric] = &[
    Metric {
        name: "drimbox_http_connections",
        kind: Kind::Gauge,
        help: "Connections open, by listener.",
    },
    Metric {
        name: "drimbox_http_requests_in_progress",
        kind: Kind::Gauge,
        help: "Requests being answered, body included, by listener.",
    },
    Metric {
        name: "drimbox_http_requests_total",
        kind: Kind::Counter,
        help: "Requests answered, by listener, resource and status.",
    },
    Metric {
        name: "drimbox_http_request_seconds",
        kind: Kind::Histogram,
        help: "Time from the head of a request to the last byte of its answer.",
    },
    Metric {
        name: "drimbox_http_first_byte_seconds",
        kind: Kind::Histogram,
        help: "Time from the head of a request to the first byte of the body of its answer.",
    },
    Metric {
        name: "drimbox_http_response_bytes_total",
        kind: Kind::Counter,
        help: "Bytes of bodies handed to clients.",
    },
    Metric {
        name: "drimbox_http_aborted_responses_total",
        kind: Kind::Counter,
        help: "Answers ended before their last byte, by cause.",
    },
    Metric {
        name: "drimbox_http_stalled_streams_total",
        kind: Kind::Counter,
        help: "Connections ended because the client accepted no byte in time, by listener.",
    },
    Metric {
        name: "drimbox_http_stalled_requests_total",
        kind: Kind::Counter,
        help: "Requests answered 408 because their body did not come in time, by listener.",
    },
    Metric {
        name: "drimbox_http_panics_total",
        kind: Kind::Counter,
        help: "Requests answered 500 because their handler panicked.",
    },
    Metric {
        name: "drimbox_tls_handshake_failures_total",
        kind: Kind::Counter,
        help: "TLS handshakes that failed, by listener and cause.",
    },
    Metric {
        name: "drimbox_peer_refusals_total",
        kind: Kind::Counter,
        help: "Requests of peers that were refused, by reason.",
    },
    Metric {
        name: "drimbox_peer_refusals_unrecorded_total",
        kind: Kind::Counter,
        help: "Refusals that are not in the audit trail, as it could not take them.",
    },
    Metric {
        name: "drimbox_tls_reloads_total",
        kind: Kind::Counter,
        help: "Certificates and authorities read again, by outcome.",
    },
    Metric {
        name: "drimbox_psc_clock_skew_seconds",
        kind: Kind::Gauge,
        help: "How far the clock of Pro Santé Connect is ahead of that of this machine, by its last answer.",
    },
    Metric {
        name: "drimbox_psc_certificate_reloads_total",
        kind: Kind::Counter,
        help: "Readings of a new certificate towards Pro Santé Connect, by outcome.",
    },
    Metric {
        name: "drimbox_alerts_waiting",
        kind: Kind::Gauge,
        help: "Alerts on certificates that are written and not delivered yet.",
    },
    Metric {
        name: "drimbox_alerts_delivered_total",
        kind: Kind::Counter,
        help: "Alerts delivered, by channel.",
    },
    Metric {
        name: "drimbox_alerts_failures_total",
        kind: Kind::Counter,
        help: "Deliveries of alerts that failed and are repeated, by channel.",
    },
    Metric {
        name: "drimbox_alerts_silent_recipients",
        kind: Kind::Gauge,
        help: "Mail recipients of alerts that did not acknowledge their monthly test, or are refused.",
    },
    Metric {
        name: "drimbox_acme_orders",
        kind: Kind::Gauge,
        help: "1 when this process orders market certificates, 0 when another one with the same folder does.",
    },
    Metric {
        name: "drimbox_acme_next_attempt_seconds",
        kind: Kind::Gauge,
        help: "Next order of a market certificate, seconds since 1970.",
    },
    Metric {
        name: "drimbox_acme_consecutive_failures",
        kind: Kind::Gauge,
        help: "Failed attempts to get a market certificate since the last success.",
    },
    Metric {
        name: "drimbox_acme_failures_total",
        kind: Kind::Counter,
        help: "Failed attempts to get a market certificate, by cause.",
    },
    Metric {
        name: "drimbox_acme_certificates_total",
        kind: Kind::Counter,
        help: "Market certificates obtained and put in service.",
    },
    Metric {
        name: "drimbox_http_connections_refused_total",
        kind: Kind::Counter,
        help: "Connections closed at once because their address had as many as it may.",
    },
    Metric {
        name: "drimbox_cache_bytes",
        kind: Kind::Gauge,
        help: "Bytes kept in the cache.",
    },
    Metric {
        name: "drimbox_cache_series",
        kind: Kind::Gauge,
        help: "Entries kept in the cache: whole series, or instances asked for alone.",
    },
    Metric {
        name: "drimbox_cache_hits_total",
        kind: Kind::Counter,
        help: "Requests for a series or an instance served from the cache.",
    },
    Metric {
        name: "drimbox_cache_misses_total",
        kind: Kind::Counter,
        help: "Requests for a series or an instance that started a retrieval.",
    },
    Metric {
        name: "drimbox_cache_joined_total",
        kind: Kind::Counter,
        help: "Requests that joined a retrieval already under way.",
    },
    Metric {
        name: "drimbox_cache_evictions_total",
        kind: Kind::Counter,
        help: "Entries removed to make room.",
    },
    Metric {
        name: "drimbox_cache_damaged_total",
        kind: Kind::Counter,
        help: "Entries removed because they could not be read back.",
    },
    Metric {
        name: "drimbox_cache_passed_through_total",
        kind: Kind::Counter,
        help: "Retrievals whose images could not be kept.",
    },
    Metric {
        name: "drimbox_cache_served_unreachable_total",
        kind: Kind::Counter,
        help: "Studies served from the cache while the PACS could not be asked.",
    },
    Metric {
        name: "drimbox_retrievals_failed_total",
        kind: Kind::Counter,
        help: "Retrievals that ended short of their last instance, by cause.",
    },
    Metric {
        name: "drimbox_cache_degraded",
        kind: Kind::Gauge,
        help: "1 while images pass through without being kept, else 0.",
    },
    Metric {
        name: "drimbox_codec_jobs_total",
        kind: Kind::Counter,
        help: "Frames given to codec processes, by codec.",
    },
    Metric {
        name: "drimbox_codec_processes_started_total",
        kind: Kind::Counter,
        help: "Processes started for the JPEG-LS and JPEG 2000 codecs.",
    },
    Metric {
        name: "drimbox_codec_processes_busy",
        kind: Kind::Gauge,
        help: "Codec processes at work.",
    },
    Metric {
        name: "drimbox_codec_processes_lost_total",
        kind: Kind::Counter,
        help: "Codec processes lost with the image they worked on, by codec and cause.",
    },
    Metric {
        name: "drimbox_dimse_associations",
        kind: Kind::Gauge,
        help: "Associations at work with a PACS, by pacs.",
    },
    Metric {
        name: "drimbox_dimse_associations_opened_total",
        kind: Kind::Counter,
        help: "Associations opened with a PACS, by pacs.",
    },
    Metric {
        name: "drimbox_dimse_operations_total",
        kind: Kind::Counter,
        help: "DIMSE operations ended, by pacs, service and outcome.",
    },
    Metric {
        name: "drimbox_dimse_errors_total",
        kind: Kind::Counter,
        help: "Failures of exchanges with a PACS, by pacs and cause.",
    },
    Metric {
        name: "drimbox_dimse_instances_received_total",
        kind: Kind::Counter,
        help: "Instances received from a PACS, by pacs.",
    },
    Metric {
        name: "drimbox_dimse_bytes_received_total",
        kind: Kind::Counter,
        help: "Bytes of data sets received from a PACS, by pacs.",
    },
    Metric {
        name: "drimbox_dimse_instances_refused_total",
        kind: Kind::Counter,
        help: "Instances from a PACS that were refused, by pacs and cause.",
    },
    Metric {
        name: "drimbox_dimse_unexpected_instances_total",
        kind: Kind::Counter,
        help: "Instances sent to the storage SCP that nobody had asked for.",
    },
    Metric {
        name: "drimbox_dimse_scp_errors_total",
        kind: Kind::Counter,
        help: "Associations of the storage SCP that failed, by cause.",
    },
    Metric {
        name: "drimbox_dimse_breaker_open",
        kind: Kind::Gauge,
        help: "1 while a PACS is left alone after repeated failures, else 0, by pacs.",
    },
    Metric {
        name: "drimbox_upstream_exchanges",
        kind: Kind::Gauge,
        help: "DICOMweb exchanges under way with a PACS, by pacs.",
    },
    Metric {
        name: "drimbox_upstream_operations_total",
        kind: Kind::Counter,
        help: "DICOMweb operations ended, by pacs, service and outcome.",
    },
    Metric {
        name: "drimbox_upstream_errors_total",
        kind: Kind::Counter,
        help: "Failures of DICOMweb exchanges with a PACS, by pacs and cause.",
    },
    Metric {
        name: "drimbox_upstream_instances_received_total",
        kind: Kind::Counter,
        help: "Instances received from a PACS by DICOMweb, by pacs.",
    },
    Metric {
        name: "drimbox_upstream_bytes_received_total",
        kind: Kind::Counter,
        help: "Bytes of DICOM files received from a PACS by DICOMweb, by pacs.",
    },
    Metric {
        name: "drimbox_upstream_instances_refused_total",
        kind: Kind::Counter,
        help: "Instances received by DICOMweb that were refused, by pacs and cause.",
    },
    Metric {
        name: "drimbox_upstream_breaker_open",
        kind: Kind::Gauge,
        help: "1 while a PACS asked by DICOMweb is left alone after repeated failures, else 0, by pacs.",
    },
    Metric {
        name: "drimbox_peer_series_total",
        kind: Kind::Counter,
        help: "Series asked of other DRIMboxes, by outcome",
    },
    Metric {
        name: "drimbox_peer_instances_received_total",
        kind: Kind::Counter,
        help: "Instances received from other DRIMboxes",
    },
    Metric {
        name: "drimbox_peer_bytes_received_total",
        kind: Kind::Counter,
        help: "Bytes received from other DRIMboxes",
    },
    Metric {
        name: "drimbox_peer_instances_refused_total",
        kind: Kind::Counter,
        help: "Instances of other DRIMboxes that cannot be read",
    },
    Metric {
        name: "drimbox_peer_breaker_open",
        kind: Kind::Gauge,
        help: "1 while another DRIMbox is left alone after repeated failures",
    },
    Metric {
        name: "drimbox_pacs_up",
        kind: Kind::Gauge,
        help: "1 while a PACS answers a C-ECHO or a small search, else 0, by pacs.",
    },
    Metric {
        name: "drimbox_certificate_not_after_seconds",
        kind: Kind::Gauge,
        help: "End of a certificate, Unix time.",
    },
    Metric {
        name: "drimbox_presented_certificate_not_after_seconds",
        kind: Kind::Gauge,
        help: "End of a certificate that another party presented, Unix time.",
    },
    Metric {
        name: "drimbox_certificate_revocation_known",
        kind: Kind::Gauge,
        help: "1 when it can be told whether a certificate is revoked, else 0, by place.",
    },
    Metric {
        name: "drimbox_named_crl_refresh_failures_total",
        kind: Kind::Counter,
        help: "Revocation lists that certificates name and that could not be fetched or were refused.",
    },
    Metric {
        name: "drimbox_certificate_findings",
        kind: Kind::Gauge,
        help: "1 for a certificate with something wrong of that severity, else 0.",
    },
    Metric {
        name: "drimbox_trust_refusals_total",
        kind: Kind::Counter,
        help: "Peers that were not believed, by side and reason.",
    },
    Metric {
        name: "drimbox_trust_bypass_open",
        kind: Kind::Gauge,
        help: "1 while missing or expired revocation lists are accepted, else 0.",
    },
    Metric {
        name: "drimbox_trust_bypassed_total",
        kind: Kind::Counter,
        help: "Peers, and signers of white lists, believed only because of the revocation bypass.",
    },
    Metric {
        name: "drimbox_crl_seconds_left",
        kind: Kind::Gauge,
        help: "Seconds until the revocation list of an authority expires; negative when it has, 0 without one.",
    },
    Metric {
        name: "drimbox_crl_entries",
        kind: Kind::Gauge,
        help: "Certificates on the revocation list of an authority.",
    },
    Metric {
        name: "drimbox_crl_refresh_failures_total",
        kind: Kind::Counter,
        help: "Revocation lists that could not be fetched or were refused.",
    },
    Metric {
        name: "drimbox_ocsp_answers_total",
        kind: Kind::Counter,
        help: "Answers of OCSP responders about certificates of peers, by what they said.",
    },
    Metric {
        name: "drimbox_whitelist_age_seconds",
        kind: Kind::Gauge,
        help: "Seconds since the white list was last fetched and found in order.",
    },
    Metric {
        name: "drimbox_whitelist_signed_age_seconds",
        kind: Kind::Gauge,
        help: "Seconds since the white list in use was signed.",
    },
    Metric {
        name: "drimbox_whitelist_domains",
        kind: Kind::Gauge,
        help: "Domains of the white list in use.",
    },
    Metric {
        name: "drimbox_whitelist_refused_total",
        kind: Kind::Counter,
        help: "White lists refused, by reason.",
    },
    Metric {
        name: "drimbox_viewer_refusals_total",
        kind: Kind::Counter,
        help: "Links and requests of the exam page refused, by reason.",
    },
    Metric {
        name: "drimbox_viewer_lockouts_total",
        kind: Kind::Counter,
        help: "Addresses and studies locked because links were refused too often, by subject.",
    },
    Metric {
        name: "drimbox_viewer_policy_reports_total",
        kind: Kind::Counter,
        help: "Violations of the exam page's policy that browsers reported.",
    },
    Metric {
        name: "drimbox_login_sessions",
        kind: Kind::Gauge,
        help: "Sessions of people who are logged in.",
    },
    Metric {
        name: "drimbox_logins_total",
        kind: Kind::Counter,
        help: "Logins that came to an end, by outcome.",
    },
    Metric {
        name: "drimbox_logouts_total",
        kind: Kind::Counter,
        help: "Sessions that ended, by cause.",
    },
    Metric {
        name: "drimbox_forged_requests_total",
        kind: Kind::Counter,
        help: "State-changing requests refused because no page of the host sent them.",
    },
    Metric {
        name: "drimbox_proxy_sessions",
        kind: Kind::Gauge,
        help: "Sessions of the proxy e-santé.",
    },
    Metric {
        name: "drimbox_proxy_connects_total",
        kind: Kind::Counter,
        help: "Connections asked of the proxy e-santé, by status.",
    },
    Metric {
        name: "drimbox_proxy_sends_total",
        kind: Kind::Counter,
        help: "Requests for an API, by API and status.",
    },
    Metric {
        name: "drimbox_proxy_tokens_total",
        kind: Kind::Counter,
        help: "Tokens asked of the authorisation servers of APIs, by API and outcome.",
    },
    Metric {
        name: "drimbox_proxy_sessions_ended_total",
        kind: Kind::Counter,
        help: "Sessions of the proxy e-santé that ended, by cause.",
    },
    Metric {
        name: "drimbox_proxy_trace_failures_total",
        kind: Kind::Counter,
        help: "Traces of the proxy e-santé that could not be written.",
    },
    Metric {
        name: "drimbox_audit_records_total",
        kind: Kind::Counter,
        help: "Records of the audit trail made durable, by kind.",
    },
    Metric {
        name: "drimbox_audit_commits_total",
        kind: Kind::Counter,
        help: "Syncs of the audit trail: records made durable together count once.",
    },
    Metric {
        name: "drimbox_audit_failures_total",
        kind: Kind::Counter,
        help: "Records that could not be made durable, whose requests were refused, by cause.",
    },
    Metric {
        name: "drimbox_audit_syslog_lag_records",
        kind: Kind::Gauge,
        help: "Records that a syslog server is not known to have yet, by target.",
    },
    Metric {
        name: "drimbox_audit_syslog_failures_total",
        kind: Kind::Counter,
        help: "Exchanges with a syslog server that failed and are repeated, by target and cause.",
    },
    Metric {
        name: "drimbox_viewer_unrecorded_total",
        kind: Kind::Counter,
        help: "Links that opened nothing because the audit trail did not take them.",
    },
    Metric {
        name: "drimbox_weasis_launches_total",
        kind: Kind::Counter,
        help: "Launches of Weasis, by outcome.",
    },
    Metric {
        name: "drimbox_viewer_archives_total",
        kind: Kind::Counter,
        help: "Exams downloaded, by outcome.",
    },
    Metric {
        name: "drimbox_patient_proofs_total",
        kind: Kind::Counter,
        help: "Tries of patients to prove who they are, by proof and outcome.",
    },
    Metric {
        name: "drimbox_patient_lockouts_total",
        kind: Kind::Counter,
        help: "Exams closed to their patient for a day because of wrong tries.",
    },
    Metric {
        name: "drimbox_patient_codes_total",
        kind: Kind::Counter,
        help: "One-time codes asked for, by outcome.",
    },
    Metric {
        name: "drimbox_patient_sessions",
        kind: Kind::Gauge,
        help: "Sessions of patients.",
    },
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn a_time_is_rendered_as_a_histogram_with_its_help() {
        let (metrics, recorder) = Metrics::detached();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("drimbox_http_request_seconds", "listener" => "local").record(0.03);
        });
        let text = metrics.render();
        assert!(
            text.contains("# HELP drimbox_http_request_seconds Time from"),
            "{text}"
        );
        assert!(
            text.contains("# TYPE drimbox_http_request_seconds histogram"),
            "{text}"
        );
        let bucket = "drimbox_http_request_seconds_bucket{listener=\"local\",le=\"0.05\"} 1";
        assert!(text.contains(bucket), "{text}");
    }

    #[test]
    fn every_metric_is_documented() {
        let page = include_str!("../../../docs/metrics.md");
        for metric in METRICS {
            assert!(
                page.contains(&format!("`{}`", metric.name)),
                "{}",
                metric.name
            );
        }
    }

    #[test]
    fn every_metric_recorded_in_the_source_is_listed() {
        let listed: BTreeSet<_> = METRICS
            .iter()
            .map(|metric| metric.name.to_owned())
            .collect();
        let mut recorded = BTreeSet::new();
        collect(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut recorded,
        );
        let missing: Vec<_> = recorded.difference(&listed).collect();
        assert!(
            missing.is_empty(),
            "not in METRICS and docs/metrics.md: {missing:?}"
        );
    }

    /// Names of metrics in string literals of the source.
    fn collect(folder: &Path, names: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                collect(&path, names);
                continue;
            }
            let text = std::fs::read_to_string(&path).unwrap();
            let after_quote = text.split("\"drimbox_").skip(1);
            names.extend(after_quote.filter_map(|rest| {
                let (name, _) = rest.split_once('"')?;
                let plain = name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
                (plain && !name.is_empty()).then(|| format!("drimbox_{name}"))
            }));
        }
    }
}
