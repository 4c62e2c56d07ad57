//! `make demo`: a PACS, a test PKI, sample exams and the gateway in front of them, with a short tour.

mod market;
mod neighbour;
mod scene;
mod tour;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use conformance::samples::Profile;
use tokio::signal::unix::{SignalKind, signal};

use scene::{Ports, Scene, SceneError};

/// Starts a PACS and the gateway in front of it, plays a short tour, and leaves them running.
#[derive(Parser)]
#[command(name = "demo")]
struct Arguments {
    /// Folder of everything that is written; demo.json in it says where everything is.
    #[arg(long, default_value = "demo.state")]
    state: PathBuf,
    /// First of six consecutive ports; free ones are chosen unless given.
    #[arg(long)]
    port_base: Option<u16>,
    /// End after the tour; the exit code says whether every step succeeded.
    #[arg(long)]
    once: bool,
    /// Which sample exams to make.
    #[arg(long, value_enum, default_value_t = Profile::Demo)]
    samples: Profile,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Arguments::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Sets the scene and plays the tour; whether all of it went well.
async fn run(arguments: Arguments) -> Result<bool, SceneError> {
    let signal = |kind| {
        signal(kind).map_err(|source| SceneError::Io {
            what: "listen to signals".to_owned(),
            source,
        })
    };
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let ports = match arguments.port_base {
        Some(base) => Ports::from(base)?,
        None => Ports::free()?,
    };
    // What was started ends with the future that holds it.
    let stage = async {
        let scene = Scene::set(&arguments.state, &ports, arguments.samples).await?;
        let all_well = tour::play(&scene).await?;
        Ok::<_, SceneError>((scene, all_well))
    };
    let (mut scene, all_well) = tokio::select! {
        stage = stage => stage?,
        _ = interrupt.recv() => return Ok(false),
        _ = terminate.recv() => return Ok(false),
    };
    if !arguments.once {
        scene.describe();
        tokio::select! {
            ended = scene.watch() => return ended.map(|()| false),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        println!("\nStopping");
    }
    scene.strike().await?;
    Ok(all_well)
}
