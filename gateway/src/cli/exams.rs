//! `drimbox exams`: what is open to other DRIMboxes, until reports publish it by themselves.

use std::io::Write;
use std::path::PathBuf;

use clap::{Arg, Subcommand};

use super::{ConfigFile, FAILURE, Service, refuse};
use crate::config;

#[derive(Debug, Subcommand)]
pub(super) enum Exams {
    #[command(
        about = "Ouvrir un examen aux autres DRIMbox, d'après son KOS",
        mut_arg("invisible_patient", lifted_by_false),
        mut_arg("masque_ps", lifted_by_false),
        mut_arg("opposed", lifted_by_false)
    )]
    Add {
        #[arg(
            long,
            value_name = "FICHIER",
            help = "KOS publié pour l'examen (fichier DICOM)"
        )]
        kos: PathBuf,
        #[arg(
            long,
            value_name = "NOM",
            help = "Nom du PACS qui a les images (clé name)"
        )]
        pacs: String,
        #[arg(
            long,
            value_name = "ID",
            help = "Identifiant du compte rendu dont le lien ouvre l'examen (root ou root^extension)"
        )]
        cda_id: Option<String>,
        #[arg(long, help = "Le patient ne le voit pas encore (INVISIBLE_PATIENT)")]
        invisible_patient: Option<bool>,
        #[arg(long, help = "Masqué aux professionnels (MASQUE_PS)")]
        masque_ps: Option<bool>,
        #[arg(long, help = "Le patient s'oppose à son partage : il reste fermé")]
        opposed: Option<bool>,
        #[command(flatten)]
        config: ConfigFile,
    },
    #[command(about = "Lister les examens ouverts aux autres DRIMbox")]
    List(ConfigFile),
    #[command(about = "Enregistrer ce qui prouve qu'une personne est le patient de l'examen")]
    Patient {
        #[arg(long, value_name = "NOM", help = "Nom du PACS (clé name)")]
        pacs: String,
        #[arg(long, value_name = "UID", help = "Study Instance UID de l'examen")]
        study: String,
        #[arg(
            long,
            value_name = "FICHIER",
            help = "JSON avec birth_date, code, mail et phone, selon patient_gate"
        )]
        file: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
    },
    #[command(about = "Joindre le compte rendu (CDA avec un PDF) à un examen")]
    Report {
        #[arg(long, value_name = "NOM", help = "Nom du PACS (clé name)")]
        pacs: String,
        #[arg(long, value_name = "UID", help = "Study Instance UID de l'examen")]
        study: String,
        #[arg(long, value_name = "FICHIER", help = "Document CDA")]
        cda: PathBuf,
        #[command(flatten)]
        config: ConfigFile,
    },
    #[command(about = "Fermer un examen aux autres DRIMbox")]
    Remove {
        #[arg(long, value_name = "NOM", help = "Nom du PACS (clé name)")]
        pacs: String,
        #[arg(long, value_name = "UID", help = "Study Instance UID de l'examen")]
        study: String,
        #[command(flatten)]
        config: ConfigFile,
    },
}

/// What is asked of the running service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExamsCommand {
    /// Registers an exam.
    Add(NewExam),
    /// Lists them.
    List,
    /// Says what proves that somebody is the patient of one.
    Patient {
        /// Name of the PACS.
        pacs: String,
        /// Study Instance UID.
        study: String,
        /// File with the facts, in JSON.
        file: PathBuf,
    },
    /// Gives one its report.
    Report {
        /// Name of the PACS.
        pacs: String,
        /// Study Instance UID.
        study: String,
        /// The CDA document.
        cda: PathBuf,
    },
    /// Takes one out.
    Remove {
        /// Name of the PACS.
        pacs: String,
        /// Study Instance UID.
        study: String,
    },
}

/// A restriction: the option alone sets it, `=false` lifts it, and without it what is known of the exam stays.
fn lifted_by_false(arg: Arg) -> Arg {
    let said = arg.get_help().map(ToString::to_string).unwrap_or_default();
    arg.value_name("true|false")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
        .help(format!(
            "{said} ; sans l'option, ce qui est connu de l'examen reste"
        ))
}

/// An exam to register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewExam {
    /// File of its KOS.
    pub kos: PathBuf,
    /// Name of the PACS.
    pub pacs: String,
    /// Id of its report.
    pub cda_id: Option<String>,
    /// INVISIBLE_PATIENT; `None` leaves what is known of the exam.
    pub invisible_patient: Option<bool>,
    /// MASQUE_PS, in the same way.
    pub masked_to_professionals: Option<bool>,
    /// The patient is opposed, in the same way.
    pub opposed: Option<bool>,
}

pub(super) fn execute(
    command: Exams,
    service: &impl Service,
    out: &mut impl Write,
    err: &mut impl Write,
) -> std::io::Result<u8> {
    let (config, command) = match command {
        Exams::Add {
            kos,
            pacs,
            cda_id,
            invisible_patient,
            masque_ps,
            opposed,
            config,
        } => (
            config,
            ExamsCommand::Add(NewExam {
                kos,
                pacs,
                cda_id,
                invisible_patient,
                masked_to_professionals: masque_ps,
                opposed,
            }),
        ),
        Exams::List(config) => (config, ExamsCommand::List),
        Exams::Patient {
            pacs,
            study,
            file,
            config,
        } => (config, ExamsCommand::Patient { pacs, study, file }),
        Exams::Report {
            pacs,
            study,
            cda,
            config,
        } => (config, ExamsCommand::Report { pacs, study, cda }),
        Exams::Remove {
            pacs,
            study,
            config,
        } => (config, ExamsCommand::Remove { pacs, study }),
    };
    let config = match config::load(&config.path) {
        Ok(config) => config,
        Err(error) => return refuse(&error, err),
    };
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build()?;
    match runtime.block_on(service.exams(&config, &command)) {
        Ok(text) => out.write_all(text.as_bytes()).map(|()| 0),
        Err(error) => writeln!(err, "drimbox : {error:#}").map(|()| FAILURE),
    }
}
