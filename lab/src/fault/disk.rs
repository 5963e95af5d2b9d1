//! A disk of a few megabytes, in a file of its own, that can be filled up, frozen, made read-only, and told to refuse.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;

const BALLAST: &str = "ballast";
const BLOCK: [u8; 4096] = [0; 4096];

/// An ext4 file system, mounted as long as the value lives.
#[derive(Debug)]
pub struct Disk {
    place: PathBuf,
    image: PathBuf,
}

impl Disk {
    /// Makes one of so many megabytes and mounts it at `place`, an empty folder.
    #[must_use]
    #[track_caller]
    pub fn mount(place: &Path, megabytes: u64) -> Self {
        let image = place.with_extension("image");
        let file = File::create(&image).expect("the scratch folder is writable");
        file.set_len(megabytes << 20).expect("a file may have holes");
        // Nothing is set aside for root, whom the laboratory runs as.
        command::run(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image));
        command::run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(place));
        let disk = Self { place: place.to_owned(), image };
        command::run(Command::new("chmod").arg("700").arg(place));
        disk
    }

    /// Leaves no room on it.
    #[track_caller]
    pub fn fill(&self) {
        let file = OpenOptions::new().create(true).append(true).open(self.place.join(BALLAST));
        let mut file = file.expect("the disk takes a file");
        // Blocks that others free while it is written are taken, too.
        for _ in 0..3 {
            let full = loop {
                if let Err(error) = file.write_all(&BLOCK) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull, "{full}");
            file.sync_all().expect("what was written has a place");
        }
    }

    /// Makes the room that [`Self::fill`] has taken.
    #[track_caller]
    pub fn empty(&self) {
        fs::remove_file(self.place.join(BALLAST)).expect("the disk was filled");
    }

    /// Has the disk refuse every change of these files, also by those who have them open.
    #[track_caller]
    pub fn refuse(&self, names: &[&str]) {
        self.attribute("+i", names);
    }

    /// Takes changes of these files again.
    #[track_caller]
    pub fn accept(&self, names: &[&str]) {
        self.attribute("-i", names);
    }

    #[track_caller]
    fn attribute(&self, change: &str, names: &[&str]) {
        command::run(Command::new("chattr").arg(change).args(names.iter().map(|name| self.place.join(name))));
    }

    /// Nobody's writes come back until [`Self::thaw`].
    #[track_caller]
    pub fn freeze(&self) {
        command::run(Command::new("fsfreeze").arg("--freeze").arg(&self.place));
    }

    /// Ends it.
    #[track_caller]
    pub fn thaw(&self) {
        command::run(Command::new("fsfreeze").arg("--unfreeze").arg(&self.place));
    }

    /// Mounts it read-only, or for writing again; nobody may have a file open for writing.
    #[track_caller]
    pub fn read_only(&self, read_only: bool) {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        command::run(Command::new("mount").args(["-o", options]).arg(&self.place));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever fails while it is frozen must not leave it so. What cannot be undone was not done.
        let _ = command::output(Command::new("fsfreeze").arg("--unfreeze").arg(&self.place));
        let _ = command::output(Command::new("umount").arg("--lazy").arg(&self.place));
        let _ = fs::remove_file(&self.image);
    }
}
