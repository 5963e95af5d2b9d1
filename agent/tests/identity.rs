//! The identity file: what existing daemons write is read, what is created is theirs too, and no other is touched.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use agent::identity::{FileError, Identity, create, has_signed, load};

const SEED: [u8; 32] = [0xA1; 32];
/// As a daemon 1.18 writes it.
const FILE: &str = "{
  \"private_key\": \"oaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaGhoaG8fLy1Y2N1+h2CQ01GZyTZI3f1O5gGld1J0m0M4SIFpQ==\",
  \"public_key\": \"vHy8tWNjdfodgkNNRmck2SN39TuYBpXdSdJtDOEiBaU=\"
}";

fn write(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn complaint(path: &Path) -> String {
    load(path).expect_err("the file must be refused").to_string().replace(path.to_str().unwrap(), "FILE")
}

#[test]
fn a_file_of_an_existing_daemon_is_read_and_written() {
    let identity = Identity::from_json(FILE).unwrap();
    assert_eq!(identity.public_key(), Identity::from_seed(&SEED).public_key());
    assert_eq!(identity.to_json().trim_end(), FILE);
}

#[test]
fn created_once_for_its_owner_alone_and_the_same_when_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.json");
    assert!(matches!(load(&path), Err(FileError::Missing(_))));
    let identity = create(&path, &SEED).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(load(&path).unwrap().public_key(), identity.public_key());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");

    let before = fs::read(&path).unwrap();
    assert!(matches!(create(&path, &[7; 32]), Err(FileError::Exists(_))));
    assert_eq!(fs::read(&path).unwrap(), before);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no draft is left");
}

#[test]
fn a_folder_that_is_not_there_is_no_place() {
    let folder = tempfile::tempdir().unwrap();
    let error = create(&folder.path().join("none/identity.json"), &SEED).unwrap_err().to_string();
    assert!(error.starts_with("cannot create ") && error.contains(": No such file"), "{error}");
}

#[test]
fn complaints_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.json");
    write(&path, FILE, 0o644);
    assert_eq!(complaint(&path), "FILE is open to others (mode 0644); if nobody else has seen it: chmod 600 FILE");

    let advice = "restore it from a copy, or move it away to begin as a new node";
    for (text, reason) in [
        (String::new(), "it is no JSON with two keys"),
        (FILE[..100].to_owned(), "it is no JSON with two keys"),
        (FILE.replace("oaGh", "!!!!"), "a key is no base64"),
        (FILE.replace("oaGhoaGh", "oaGh"), "a key has the wrong length"),
        (FILE.replace("G8fLy1", "G8fLy2"), "the two halves of the private key do not belong together"),
        (FILE.replace("vHy8", "vHy9"), "the public key is not that of the private key"),
        ("x".repeat(5000), "it is no small file"),
    ] {
        write(&path, &text, 0o600);
        assert_eq!(complaint(&path), format!("FILE is no identity file: {reason}; {advice}"));
    }
    assert_eq!(
        load(folder.path()).unwrap_err().to_string(),
        format!("{} is no identity file: it is no small file; {advice}", folder.path().display())
    );
}

#[test]
fn signatures_are_ours_and_checked_strictly() {
    let identity = Identity::from_seed(&SEED);
    let signature = identity.sign(b"auth");
    assert!(has_signed(&identity.public_key(), b"auth", &signature));
    assert!(!has_signed(&identity.public_key(), b"auth:", &signature));
    assert!(!has_signed(&Identity::from_seed(&[1; 32]).public_key(), b"auth", &signature));
    assert!(!has_signed(&[0; 32], b"auth", &[0; 64]), "a key of small order signs everything");
}

#[test]
fn nothing_secret_is_printed() {
    let identity = Identity::from_seed(&SEED);
    assert_eq!(format!("{identity:?}"), "Identity(vHy8tWNjdfodgkNNRmck2SN39TuYBpXdSdJtDOEiBaU=)");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.json");
    write(&path, &FILE.replace("vHy8", "vHy9"), 0o600);
    let shown = format!("{:?}", load(&path).unwrap_err());
    assert!(!shown.contains("oaGh"), "{shown}");
}
