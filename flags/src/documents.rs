//! Manual pages and completions, from the definitions of the command line.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;

/// `completions`.
#[derive(Clone, Debug, Args)]
pub struct Completions {
    /// Which shell
    pub shell: Shell,
}

/// `man`.
#[derive(Clone, Debug, Args)]
pub struct Man {
    /// Write one page per command into this folder
    #[arg(long, value_name = "DIR")]
    pub folder: Option<PathBuf>,
}

impl Completions {
    /// Prints the script.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn print(&self, command: &Command) -> io::Result<()> {
        print(&completions(command, self.shell))
    }
}

impl Man {
    /// Prints the program's page, or writes all pages into the folder.
    ///
    /// # Errors
    /// Standard output or the folder cannot be written.
    pub fn print(&self, command: &Command) -> io::Result<()> {
        match &self.folder {
            Some(folder) => manual_pages(command, folder).map(drop),
            None => print(&page(command.clone())?),
        }
    }
}

/// A reader that has gone away is no error.
fn print(text: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

/// The words a shell completes.
#[must_use]
pub fn completions(command: &Command, shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command.clone(), command.get_name(), &mut script);
    script
}

/// One page per command into `folder`, which is made when missing; how many.
///
/// # Errors
/// The folder cannot be written.
pub fn manual_pages(command: &Command, folder: &Path) -> io::Result<usize> {
    fs::create_dir_all(folder)?;
    let mut root = command.clone();
    root.build();
    let name = command.get_name().to_owned();
    let mut pages = vec![(name.clone(), page(command.clone())?)];
    collect(&root, &name, &mut pages)?;
    for (name, page) in &pages {
        fs::write(folder.join(format!("{name}.1")), page)?;
    }
    Ok(pages.len())
}

fn collect(command: &Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> io::Result<()> {
    let shown = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    for subcommand in shown.filter(|subcommand| subcommand.get_name() != "help") {
        let name = format!("{name}-{}", subcommand.get_name());
        pages.push((name.clone(), page(subcommand.clone().display_name(name.clone()))?));
        collect(subcommand, &name, pages)?;
    }
    Ok(())
}

/// One page.
///
/// # Errors
/// None that is known: it is written to memory.
pub fn page(command: Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(page)
}
