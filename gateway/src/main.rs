//! The `drimbox` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    drimbox::cli::run(
        std::env::args_os(),
        &drimbox::app::App,
        &mut std::io::stdout(),
        &mut std::io::stderr(),
    )
}
