//! Names of received files: `report-20260131-120000.000-000001.txt`, as existing daemons write them. A sender's name is a
//! wish: what is used of it cannot leave the folder, hide, or take the place of another file.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::folder::stamp;
use crate::services::files::Files;

/// Bytes of a name, of the 255 that file systems take, so that time and number still fit.
const NAME_BYTES_MAX: usize = 200;
/// Bytes of an extension that survives where a name is cut.
const EXTENSION_BYTES_MAX: usize = 20;
/// Numbers tried for one name.
const NUMBERS_MAX: usize = 1000;

/// Gives the whole file at `path` a name in `folder`: `wanted`, made safe, with the time and the first number from
/// `number` on that is free.
pub(super) async fn publish<F: Files>(
    files: &F,
    path: &Path,
    folder: &Path,
    wanted: &str,
    unix: Duration,
    number: usize,
) -> io::Result<PathBuf> {
    let name = safe_name(wanted);
    for number in number..number + NUMBERS_MAX {
        let target = folder.join(stamped(&name, &stamp(unix, number)));
        match files.publish(path, &target).await {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            outcome => return outcome.map(|()| target),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("there are {NUMBERS_MAX} files called {name}")))
}

fn safe_name(wanted: &str) -> String {
    let last = wanted.rsplit(['/', '\\']).next().unwrap_or_default();
    // Invisible characters that turn the direction of writing make `exe.txt` of `txt.exe`.
    let is_deceptive =
        |c: char| matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let mut name: String = last.chars().map(|c| if c.is_control() || is_deceptive(c) { '_' } else { c }).collect();
    if name.trim().is_empty() {
        return "file".to_owned();
    }
    if name.starts_with('.') {
        name.replace_range(..1, "_");
    }
    if name.len() <= NAME_BYTES_MAX {
        return name;
    }
    let (stem, extension) = split(&name);
    let extension = if extension.len() <= EXTENSION_BYTES_MAX { extension } else { "" };
    let stem = &stem[..stem.floor_char_boundary(NAME_BYTES_MAX - extension.len())];
    format!("{stem}{extension}")
}

fn stamped(name: &str, stamp: &str) -> String {
    let (stem, extension) = split(name);
    format!("{stem}-{stamp}{extension}")
}

/// A name and its extension, dot included.
fn split(name: &str) -> (&str, &str) {
    name.rfind('.').filter(|dot| *dot > 0).map_or((name, ""), |dot| name.split_at(dot))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_folder_or_hide() {
        for (wanted, name) in [
            ("note.txt", "note.txt"),
            ("Größe 1.txt", "Größe 1.txt"),
            ("../../etc/passwd", "passwd"),
            ("/etc/passwd", "passwd"),
            (r"C:\Windows\system.ini", "system.ini"),
            ("..", "_."),
            (".", "_"),
            ("a/..", "_."),
            ("", "file"),
            ("dir/", "file"),
            ("  ", "file"),
            (".bashrc", "_bashrc"),
            (".partial", "_partial"),
            ("a\0b\nc\u{7f}", "a_b_c_"),
            ("cod\u{202e}txt.exe", "cod_txt.exe"),
        ] {
            assert_eq!(safe_name(wanted), name, "{wanted:?}");
        }
    }

    #[test]
    fn long_names_are_cut_between_characters_and_keep_their_extension() {
        let name = safe_name(&format!("{}.tar.gz", "ü".repeat(300)));
        assert!(name.len() <= NAME_BYTES_MAX && name.ends_with(".gz"), "{name}");
        assert!(safe_name(&format!("a.{}", "b".repeat(300))).len() <= NAME_BYTES_MAX);
        assert!(safe_name(&"ü".repeat(32_000)).len() <= NAME_BYTES_MAX);
    }

    #[test]
    fn time_and_number_stand_before_the_extension() {
        assert_eq!(stamped("a.tar.gz", "T-1"), "a.tar-T-1.gz");
        assert_eq!(stamped("README", "T-1"), "README-T-1");
        assert_eq!(stamped("_bashrc", "T-1"), "_bashrc-T-1");
    }
}
