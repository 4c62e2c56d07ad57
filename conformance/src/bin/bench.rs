//! Measures the gateway beside nginx, DCMTK and Orthanc, and prints a table.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use conformance::bench::dcmtk::Tool;
use conformance::bench::gates::{self, GatesBench};
use conformance::bench::link::{self, LinkBench};
use conformance::bench::machine;
use conformance::bench::psc::{self, PscBench};
use conformance::bench::report::{self, Row};
use conformance::bench::rows::{Bench, KEYS};
use conformance::bench::stage::{Stage, address};
use conformance::bench::viewer::{self, ViewerBench};
use conformance::testkit::KitError;

/// Measures the gateway that DRIMBOX_BIN names, beside nginx, DCMTK and Orthanc.
#[derive(Parser)]
#[command(name = "bench")]
struct Arguments {
    /// Runs of each measure; the figures are their medians.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// Measures to make, separated by commas; all of them unless given.
    #[arg(long, value_delimiter = ',', value_parser = clap::builder::PossibleValuesParser::new(KEYS.into_iter().chain(psc::KEYS).chain(gates::KEYS).chain(viewer::KEYS).chain(link::KEYS)))]
    only: Vec<String>,
    /// Three runs and 100 retrievals under load: for a first look.
    #[arg(long)]
    quick: bool,
    /// Retrievals under load.
    #[arg(long, default_value_t = 1000)]
    retrievals: usize,
    /// File for the report; it is printed in any case.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Folder for the exams, which are kept, and for what the programs write.
    #[arg(long, default_value = "target/bench")]
    state: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes the measures and writes the report; false when one of them did not work or missed its bar.
async fn run(arguments: &Arguments) -> Result<bool, KitError> {
    let wanted =
        |key: &&str| arguments.only.is_empty() || arguments.only.iter().any(|only| only == key);
    let keys: Vec<&str> = KEYS.into_iter().filter(wanted).collect();
    let of_psc: Vec<&str> = psc::KEYS.into_iter().filter(wanted).collect();
    let of_viewer: Vec<&str> = viewer::KEYS.into_iter().filter(wanted).collect();
    let mut facts = machine::facts();
    let mut rows = Vec::new();
    let mut failures = Vec::new();
    let runs = if arguments.quick {
        3
    } else {
        usize::from(arguments.runs)
    };
    if !of_psc.is_empty() {
        let bench = PscBench::start(&arguments.state).await?;
        for key in of_psc {
            eprintln!("measuring {key}");
            match bench.measure(key, runs).await {
                Ok(row) => {
                    eprintln!("{}", row.line());
                    rows.push(row);
                }
                Err(error) => failures.push(format!("{key}: {error}")),
            }
        }
    }
    let of_gates: Vec<&str> = gates::KEYS.into_iter().filter(wanted).collect();
    if !of_gates.is_empty() {
        let mut bench = GatesBench::start(&arguments.state).await?;
        for key in of_gates {
            eprintln!("measuring {key}");
            match bench.measure(key, runs).await {
                Ok(row) => {
                    eprintln!("{}", row.line());
                    rows.push(row);
                }
                Err(error) => failures.push(format!("{key}: {error}")),
            }
        }
    }
    if link::KEYS.iter().any(wanted) {
        eprintln!("measuring {}", link::KEYS[0]);
        let mut bench = LinkBench::start(&arguments.state).await?;
        match bench.measure(runs).await {
            Ok(measured) => {
                for row in &measured {
                    eprintln!("{}", row.line());
                }
                rows.extend(measured);
            }
            Err(error) => failures.push(format!("{}: {error}", link::KEYS[0])),
        }
    }
    if !of_viewer.is_empty() {
        let mut bench = ViewerBench::start(&arguments.state, runs).await?;
        facts.push(bench.facts()?);
        for key in of_viewer {
            eprintln!("measuring {key}");
            match bench.measure(key).await {
                Ok(measured) => {
                    for row in &measured {
                        eprintln!("{}", row.line());
                    }
                    rows.extend(measured);
                }
                Err(error) => failures.push(format!("{key}: {error}")),
            }
        }
    }
    if keys.is_empty() {
        return finish(arguments, &facts, &rows, &failures);
    }
    let stage = Stage::start(&arguments.state, keys.contains(&"cold-study-nagle")).await?;
    facts.push(stage.check_getscu()?);
    facts.push(tool_start(&stage)?);
    facts.push(security(&stage)?);
    if cfg!(debug_assertions) {
        facts.push(
            "the measuring client was built without optimisation: figures are too low".into(),
        );
    }
    let mut bench = Bench {
        stage,
        runs,
        retrievals: if arguments.quick {
            100
        } else {
            arguments.retrievals
        },
    };
    for key in keys {
        eprintln!("measuring {key}");
        match bench.measure(key).await {
            Ok(measured) => {
                for row in &measured {
                    eprintln!("{}", row.line());
                }
                rows.extend(measured);
            }
            Err(error) => {
                eprintln!("{key}: {error}");
                failures.push(format!("{key}: {error}"));
            }
        }
    }
    finish(arguments, &facts, &rows, &failures)
}

/// Prints the report and writes it where it is wanted; false when a measure did not work or missed its bar.
fn finish(
    arguments: &Arguments,
    facts: &[String],
    rows: &[Row],
    failures: &[String],
) -> Result<bool, KitError> {
    let missed = report::missed(rows);
    let report = render(facts, rows, failures);
    println!("{report}");
    if let Some(file) = &arguments.out {
        std::fs::write(file, &report).map_err(|source| KitError::Io {
            what: format!("write {}", file.display()),
            source,
        })?;
    }
    for row in &missed {
        eprintln!("bench: {}: {} misses its bar", row.key, row.measure);
    }
    Ok(failures.is_empty() && missed.is_empty())
}

fn render(facts: &[String], rows: &[Row], failures: &[String]) -> String {
    let mut text = String::from("# Benchmark\n\n");
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "Command: `bench {}`\n", arguments.join(" "));
    for fact in facts {
        let _ = writeln!(text, "- {fact}");
    }
    let _ = writeln!(text, "\n{}", report::HEAD);
    for row in rows {
        let _ = writeln!(text, "{}", row.line());
    }
    text.push_str(
        "\nMedians of runs that alternate: gateway, peer, Orthanc's DICOMweb. drimbox over TLS with a \
         client certificate, nginx over TLS, Orthanc's DICOMweb over plain HTTP; a connection of its \
         own for every request, opened within the measured time, unless the row says otherwise. Cold: \
         the gateway restarted without cache and without what it knew of the PACS. One client program \
         reads and throws away for all; it, the servers and the PACS share the machine.\n\n",
    );
    for row in rows.iter().filter(|row| !row.note.is_empty()) {
        let _ = writeln!(text, "- {}: {}", row.measure, row.note);
    }
    for failure in failures {
        let _ = writeln!(text, "- **did not work**: {failure}");
    }
    text
}

/// What a tool of DCMTK takes before it does anything.
fn tool_start(stage: &Stage) -> Result<String, KitError> {
    let tool = Tool::echoscu(&address(&stage.pacs));
    let mut times = Vec::new();
    for _ in 0..5 {
        times.push(tool.time()?.as_secs_f64());
    }
    let time = report::median(&times).unwrap_or_default() * 1e3;
    Ok(format!(
        "times of getscu and findscu are those of the whole program; starting one, an association \
         and a C-ECHO take {time:.0} ms"
    ))
}

fn security(stage: &Stage) -> Result<String, KitError> {
    use conformance::bench::fetch::Connection;
    let drimbox = Connection::open(&stage.drimbox())?.security();
    let nginx = Connection::open(&stage.nginx)?.security();
    Ok(format!("TLS: drimbox {drimbox}, nginx {nginx}"))
}
