//! A wall clock that jumps when told to.

use std::fs;
use std::path::{Path, PathBuf};

use crate::appliance::ApplianceFlags;
use crate::world::World;

/// A wall clock for the appliance alone, which jumps when told to. The machine's clock stays.
#[derive(Debug)]
pub struct WallClock {
    library: PathBuf,
    file: PathBuf,
}

impl WallClock {
    /// A clock that shows the time.
    ///
    /// # Panics
    /// When `libfaketime` is not there.
    #[must_use]
    #[track_caller]
    pub fn new(world: &World) -> Self {
        let clock = Self { library: library(), file: world.relay_host().stage.scratch().join("wall-clock") };
        clock.jump("+0");
        clock
    }

    /// Has an appliance read this clock.
    #[must_use]
    pub fn worn_by(&self, flags: ApplianceFlags) -> ApplianceFlags {
        // The library reads its file whenever it is asked the time, which a confined relay may not.
        flags
            .flag("--confinement", "off")
            .environment("LD_PRELOAD", &self.library.to_string_lossy())
            .environment("FAKETIME_TIMESTAMP_FILE", &self.file.to_string_lossy())
            .environment("FAKETIME_NO_CACHE", "1")
            .environment("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .environment("DONT_FAKE_MONOTONIC", "1")
    }

    /// Moves it away from the true time: `+1d`, `-3600`.
    #[track_caller]
    pub fn jump(&self, offset: &str) {
        let beside = self.file.with_extension("new");
        let written = fs::write(&beside, format!("{offset}\n")).and_then(|()| fs::rename(beside, &self.file));
        written.expect("the scratch folder is writable");
    }
}

/// The library that answers in the place of the kernel, in the folder of this machine's architecture.
#[track_caller]
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let found = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1")).find(|path| Path::exists(path));
    found.expect("libfaketime is missing: apt-get install libfaketime")
}
