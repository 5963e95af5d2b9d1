//! A look at a database that another process may have open. Leaves no trace: a log that is gone is not to be there again
//! when [`Folder::check_files`](super::folder::Folder::check_files) asks for it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use super::folder::LOG_FILE_NAME;
use super::{BUSY_TIMEOUT, FILE_NAME};
use crate::enrolment::Approval;

pub(super) const SHARED_MEMORY: &str = "directory.sqlite-shm";

/// What there is to look at.
pub(super) enum Glance {
    /// There is no database.
    Missing,
    /// The last one to have it open has left a log that only whoever opens it can read.
    Unseen,
    /// It can be read.
    Open(Connection),
}

/// Opens the database in `data_dir` to be read, without a change to any file.
pub(super) fn open(data_dir: &Path) -> rusqlite::Result<Glance> {
    let path = data_dir.join(FILE_NAME);
    if fs::metadata(&path).map_or(0, |file| file.len()) == 0 {
        return Ok(Glance::Missing);
    }
    let way = match (data_dir.join(LOG_FILE_NAME).exists(), data_dir.join(SHARED_MEMORY).exists()) {
        // Nobody has it open, and SQLite would make a log.
        (false, _) => "immutable=1",
        // Nothing is noted in the shared memory, which another process uses or a crash has left.
        (true, true) => "readonly_shm=1",
        (true, false) => return Ok(Glance::Unseen),
    };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(uri(&path, way), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(Glance::Open(connection))
}

/// A file that SQLite opens this `way`.
fn uri(path: &Path, way: &str) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
            byte => {
                let _ = write!(uri, "%{byte:02x}");
            }
        }
    }
    uri + "?" + way
}

/// How many registered nodes the list of keys alone has let into the directory in `data_dir`, while another process may
/// have it open. 0 where that cannot be seen; whoever opens it counts again.
#[must_use]
pub fn count_listed(data_dir: &Path) -> usize {
    let count = || -> rusqlite::Result<usize> {
        let Glance::Open(connection) = open(data_dir)? else { return Ok(0) };
        let sql = "SELECT count(*) FROM nodes WHERE registered AND approval = ?1 AND banned_at IS NULL";
        connection.query_row(sql, params![Approval::Listed as u8], |row| row.get(0))
    };
    count().unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot look at the database before it is opened");
        0
    })
}

#[cfg(test)]
mod tests {
    use wire::NodeId;
    use wire::registry::Base64;

    use super::*;
    use crate::facts::{Change, NodeFact};
    use crate::store::Store;

    #[test]
    fn a_look_counts_while_others_write_and_leaves_no_log_behind() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("a?b#c%20d");
        assert_eq!(count_listed(&folder), 0, "there is none");
        let mut store = Store::open(&folder, 1).unwrap();
        let node = |id, registered, approval| {
            let fact = NodeFact::new(NodeId(id), Base64([id as u8; 32]), 1);
            Change::Node(Box::new(NodeFact { registered, approval, ..fact }))
        };
        let changes =
            [node(1, true, Approval::Listed), node(2, true, Approval::Admitted), node(3, false, Approval::Listed)];
        store.commit(&changes).unwrap();
        assert_eq!(count_listed(&folder), 1, "it is open");
        drop(store);
        let names = || {
            let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        let before = names();
        assert_eq!((count_listed(&folder), names()), (1, before), "it is closed");
    }
}
