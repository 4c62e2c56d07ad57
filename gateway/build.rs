//! Lists the built files of the exam page for `viewer::assets`, which embeds them.
//!
//! They are built by `make viewer`, with Node. Without them the gateway still builds, for those who work on
//! something else; its page then says what is missing.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    let dist = Path::new("viewer/dist");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={}", dist.display());

    let list = fs::read_to_string(dist.join("files.tsv")).unwrap_or_default();
    if list.is_empty() {
        println!("cargo:warning=the exam page is not built: run `make viewer`, then build again");
    }
    let site = env::current_dir()?.join(dist).join("site");
    let out = env::var_os("OUT_DIR").map_or_else(PathBuf::new, PathBuf::from);
    fs::write(out.join("viewer_files.rs"), table(&list, &site)?)
}

/// A Rust array of one `File` for each line: name, media type, length.
fn table(list: &str, site: &Path) -> io::Result<String> {
    let mut code = String::from("&[\n");
    for line in list.lines() {
        let mut fields = line.split('\t');
        let (Some(name), Some(media_type), Some(length)) =
            (fields.next(), fields.next(), fields.next())
        else {
            return Err(io::Error::other(format!(
                "files.tsv: {line:?} has not three fields"
            )));
        };
        let length: u64 = length.parse().map_err(io::Error::other)?;
        let _ = writeln!(
            code,
            "File {{ name: {name:?}, media_type: {media_type:?}, length: {length}, \
             brotli: include_bytes!({:?}), gzip: include_bytes!({:?}) }},",
            site.join(format!("{name}.br")),
            site.join(format!("{name}.gz")),
        );
    }
    code.push(']');
    Ok(code)
}
