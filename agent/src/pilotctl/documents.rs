//! Manual pages and completions, from the definitions of the command line.

use std::fs;
use std::io;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::arguments::{Arguments, MANUAL};
use super::exit::{Code, Failure};

/// The words a shell completes.
pub(super) fn completions(shell: clap_complete::Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "pilotctl", &mut script);
    script
}

/// The manual page of `pilotctl` itself.
pub(super) fn manual() -> io::Result<Vec<u8>> {
    page(Arguments::command().after_help(MANUAL).after_long_help(MANUAL))
}

/// One page per command, all into a folder.
pub(super) fn manual_pages(folder: &Path) -> Result<usize, Failure> {
    let failed = |error: io::Error| {
        Failure::new(Code::Internal, format!("cannot write to {}: {error}", folder.display()))
            .hint("name a folder that can be written with --folder")
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let mut root = Arguments::command();
    root.build();
    let mut pages = vec![("pilotctl".to_owned(), manual().map_err(failed)?)];
    collect(&root, "pilotctl", &mut pages).map_err(failed)?;
    for (name, page) in &pages {
        fs::write(folder.join(format!("{name}.1")), page).map_err(failed)?;
    }
    Ok(pages.len())
}

fn collect(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()) {
        let name = format!("{name}-{}", subcommand.get_name());
        let mut titled = subcommand.clone();
        // Its own flags; the global ones are in the main page.
        titled = titled.display_name(name.clone());
        pages.push((name.clone(), page(titled)?));
        collect(subcommand, &name, pages)?;
    }
    Ok(())
}

fn page(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(page)
}
