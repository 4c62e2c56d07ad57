//! Logs: one subscriber for the process, on standard error, and a panic hook that feeds it.
//!
//! Nothing written through here may hold health data: no patient name, identifier, accession
//! number, report URL or token; study and instance UIDs at debug level only.

use std::panic::PanicHookInfo;

use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::{Log, LogFormat};

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter is not one.
    #[error("log filter {filter:?} cannot be read: {source}; write for example \"info\"")]
    Filter {
        /// As configured.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logging was set up before.
    #[error("logging is already set up in this process")]
    AlreadySet,
}

/// Sends the logs of the process to standard error and panics to the logs. Call it once.
///
/// # Errors
///
/// [`TelemetryError`].
pub fn init(log: &Log) -> Result<(), TelemetryError> {
    let subscriber = subscriber(log, std::io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| TelemetryError::AlreadySet)?;
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// The subscriber that [`init`] installs, with its lines written to `writer`.
///
/// # Errors
///
/// [`TelemetryError::Filter`].
pub fn subscriber<W>(
    log: &Log,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(&log.filter).map_err(|source| TelemetryError::Filter {
        filter: log.filter.clone(),
        source,
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer);
    Ok(match log.format {
        LogFormat::Human => Box::new(lines.with_ansi(false).finish()),
        LogFormat::Json => Box::new(lines.json().flatten_event(true).finish()),
    })
}

/// Says where a panic happened and not its message, which may quote the data that caused it.
fn log_panic(info: &PanicHookInfo<'_>) {
    let place = info
        .location()
        .map(|l| format!("{}:{}", l.file(), l.line()));
    let thread = std::thread::current();
    tracing::error!(
        place = place.as_deref().unwrap_or("unknown"),
        thread = thread.name().unwrap_or("unnamed"),
        "a task panicked; please report this place and the version"
    );
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]

    use std::io::Write;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl Lines {
        fn of(format: LogFormat, filter: &str, work: impl FnOnce()) -> String {
            let lines = Self::default();
            let writer = lines.clone();
            let filter = filter.to_owned();
            let log = Log { format, filter };
            let subscriber = subscriber(&log, move || writer.clone()).unwrap();
            tracing::subscriber::with_default(subscriber, work);
            let text = lines.0.lock().clone();
            String::from_utf8(text).unwrap()
        }
    }

    #[test]
    fn a_json_line_is_one_object_with_its_fields() {
        let text = Lines::of(LogFormat::Json, "info", || {
            tracing::info!(pacs = "scanner", "association opened");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(line["pacs"], "scanner");
        assert_eq!(line["message"], "association opened");
        assert_eq!(line["level"], "INFO");
    }

    #[test]
    fn the_filter_keeps_lower_levels_out() {
        let text = Lines::of(LogFormat::Human, "warn", || {
            tracing::info!("hidden");
            tracing::warn!("shown");
        });
        assert!(text.contains("shown") && !text.contains("hidden"), "{text}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_an_error() {
        let log = Log {
            format: LogFormat::Human,
            filter: "drimbox=loudly".to_owned(),
        };
        assert!(matches!(
            subscriber(&log, std::io::sink),
            Err(TelemetryError::Filter { .. })
        ));
    }
}
