//! The manual page: one for the program and all its commands.

use clap::Command;
use clap_mangen::Man;

/// Writes the page of `program`, in roff, with a section for each command.
///
/// `clap_mangen` writes one page a command, which would have to be generated and installed as seven
/// files that refer to each other.
pub(super) fn write(mut program: Command, out: &mut impl std::io::Write) -> std::io::Result<()> {
    program.build();
    let page = Man::new(program.clone());
    page.render_title(out)?;
    page.render_name_section(out)?;
    page.render_synopsis_section(out)?;
    for command in leaves(&program) {
        let name = command.get_bin_name().unwrap_or(command.get_name());
        let about = command.get_about().map(ToString::to_string);
        let section = Man::new(command.clone());
        let mut body = Vec::new();
        section.render_synopsis_section(&mut body)?;
        section.render_options_section(&mut body)?;
        let body = String::from_utf8_lossy(&body).replace(".SH ", ".SS ");
        writeln!(out, ".SH \"{name}\"\n{}\n{body}", about.unwrap_or_default())?;
    }
    page.render_extra_section(out)?;
    page.render_version_section(out)
}

/// The commands that do something, in order.
fn leaves(command: &Command) -> Vec<&Command> {
    let mut found = Vec::new();
    for child in command
        .get_subcommands()
        .filter(|child| !child.is_hide_set())
    {
        if child.has_subcommands() {
            found.extend(leaves(child));
        } else {
            found.push(child);
        }
    }
    found
}
