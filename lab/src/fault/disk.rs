//! A disk of a few megabytes, in a file of its own, that can be filled up, frozen, made read-only, told to refuse, found
//! damaged by its file system, and left without power.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command;

const BALLAST: &str = "ballast";
/// Written before the power goes, and not brought to the disk.
const UNSYNCED: &str = "unsynced";
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
        command::run(Command::new("mkfs.ext4").args(["-q", "-m", "0", "-e", "remount-ro"]).arg(&image));
        let disk = Self { place: place.to_owned(), image };
        // Programs in namespaces have a copy of every mount; only what lies on a shared one leaves theirs when it leaves ours.
        command::run(Command::new("mount").arg("--bind").arg(place).arg(place));
        command::run(Command::new("mount").arg("--make-shared").arg(place));
        disk.attach();
        command::run(Command::new("chmod").arg("700").arg(place));
        disk
    }

    #[track_caller]
    fn attach(&self) {
        command::run(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.place));
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

    /// The kernel finds the file system damaged and makes it read-only, also for those who have files open for writing:
    /// what `errors=remount-ro`, the usual setting of a system disk, does.
    #[track_caller]
    pub fn fail(&self) {
        let device =
            command::run(Command::new("findmnt").args(["-n", "-o", "SOURCE", "--mountpoint"]).arg(&self.place));
        let device = Path::new(device.trim()).file_name().expect("a loop device has a name");
        let trigger = Path::new("/sys/fs/ext4").join(device).join("trigger_fs_error");
        fs::write(&trigger, "the laboratory's").unwrap_or_else(|error| panic!("{}: {error}", trigger.display()));
    }

    /// The host loses its power: what the file system had not brought to the disk is gone, and nothing works any more until
    /// [`Self::check_and_mount`]. What a drive with a cache of its own would lose besides, it does not.
    ///
    /// # Panics
    /// When even what nobody had asked to be brought there has survived: then this was no loss of power.
    #[track_caller]
    pub fn cut_power(&self) {
        fs::write(self.place.join(UNSYNCED), BLOCK).expect("the disk takes a file");
        // The ioctl that XFS has brought and ext4 answers as well, without flushing the journal.
        command::run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.place));
    }

    /// What a start of the host does after [`Self::fail`] and [`Self::cut_power`]; nobody may have a file open.
    #[track_caller]
    pub fn check_and_mount(&self) {
        command::run(Command::new("umount").arg(&self.place));
        let check = command::output(Command::new("fsck.ext4").arg("-p").arg(&self.image));
        // 1: found something, and mended it.
        assert!(matches!(check.status.code(), Some(0 | 1)), "fsck: {}: {}", check.status, command::text(&check));
        self.attach();
        let survived = fs::metadata(self.place.join(UNSYNCED)).is_ok_and(|file| file.len() > 0);
        assert!(!survived, "what was never brought to the disk is there after the loss of power");
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
        // The disk, and the mount it lies on.
        for _ in 0..2 {
            let _ = command::output(Command::new("umount").arg("--lazy").arg(&self.place));
        }
        let _ = fs::remove_file(&self.image);
    }
}
