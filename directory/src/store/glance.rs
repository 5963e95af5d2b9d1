//! A look at a database that another process may have open. Leaves no trace: a log that is gone is not to be there again
//! when [`Folder::check_files`](super::folder::Folder::check_files) asks for it.

use std::fs;
use std::path::Path;

use rusqlite::{Connection, OpenFlags, params};

use super::folder::LOG_FILE_NAME;
use super::{BUSY_TIMEOUT, FILE_NAME, keep_log};
use crate::enrolment::Approval;

/// The database in `data_dir`, to be read; `None` where there is none.
pub(super) fn open(data_dir: &Path) -> rusqlite::Result<Option<Connection>> {
    let path = data_dir.join(FILE_NAME);
    if fs::metadata(&path).map_or(0, |file| file.len()) == 0 {
        return Ok(None);
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = if data_dir.join(LOG_FILE_NAME).exists() {
        Connection::open_with_flags(&path, flags)?
    } else {
        // Nobody has it open, and SQLite would make a log.
        let name = path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23");
        Connection::open_with_flags(format!("file:{name}?immutable=1"), flags | OpenFlags::SQLITE_OPEN_URI)?
    };
    keep_log(&connection);
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(Some(connection))
}

/// How many registered nodes the list of keys alone has let into the directory in `data_dir`, while another process may
/// have it open. 0 where that cannot be seen, which is left to whoever opens it.
#[must_use]
pub fn count_listed(data_dir: &Path) -> usize {
    let count = || -> rusqlite::Result<usize> {
        let Some(connection) = open(data_dir)? else { return Ok(0) };
        let sql = "SELECT count(*) FROM nodes WHERE registered AND approval = ?1";
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
