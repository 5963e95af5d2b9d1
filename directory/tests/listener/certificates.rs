//! A certificate replaced while connections are served.

use std::fs;

use crate::*;

#[test]
fn a_new_certificate_is_shown_to_those_who_connect_from_then_on() {
    let served = serve_with(|config| config.tls = Tls::SelfSigned);
    let first = served.running.tls_fingerprint().unwrap();
    let mut before = Client { stream: tls(served.address(), &served.folder) };
    assert_eq!(number(&before.ask(registration(&key(1)))), NodeId(1));
    assert!(!served.running.reload_certificate(&Tls::SelfSigned).unwrap(), "it is the same");

    let files = ["tls-cert.pem", "tls-key.pem"].map(|name| served.folder.path().join(name));
    files.iter().for_each(|file| fs::remove_file(file).unwrap());
    assert!(served.running.reload_certificate(&Tls::SelfSigned).unwrap());
    assert_ne!(served.running.tls_fingerprint().unwrap(), first);
    // Trusts the new one alone.
    let mut after = Client { stream: tls(served.address(), &served.folder) };
    assert_eq!(number(&after.ask(registration(&key(1)))), NodeId(1));
    // Whoever was connected notices nothing.
    assert_eq!(number(&before.ask(registration(&key(1)))), NodeId(1));

    let good = fs::read(&files[0]).unwrap();
    fs::write(&files[0], "no certificate").unwrap();
    let error = served.running.reload_certificate(&Tls::SelfSigned).unwrap_err().to_string();
    assert!(error.contains("tls-cert.pem"), "{error}");
    fs::write(&files[0], good).unwrap();
    let mut still = Client { stream: tls(served.address(), &served.folder) };
    assert_eq!(number(&still.ask(registration(&key(1)))), NodeId(1));
}

#[test]
fn what_takes_a_restart_is_refused() {
    let plain = serve();
    assert!(!plain.running.reload_certificate(&Tls::Off).unwrap());
    assert!(plain.running.reload_certificate(&Tls::SelfSigned).unwrap_err().to_string().contains("restart"));
    let secure = serve_with(|config| config.tls = Tls::SelfSigned);
    assert!(secure.running.reload_certificate(&Tls::Off).is_err());
}

#[test]
fn one_that_has_expired_does_not_replace_one_that_has_not() {
    let served = serve_with(|config| config.tls = Tls::SelfSigned);
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let secret = rcgen::KeyPair::generate().unwrap();
    let (cert, key) = (served.folder.path().join("old.pem"), served.folder.path().join("old-key.pem"));
    fs::write(&cert, params.self_signed(&secret).unwrap().pem()).unwrap();
    fs::write(&key, secret.serialize_pem()).unwrap();
    let error = served.running.reload_certificate(&Tls::Files { cert, key }).unwrap_err().to_string();
    assert!(error.contains("has expired"), "{error}");
}

#[test]
fn a_directory_that_cannot_keep_a_certificate_serves_without_where_nobody_insists() {
    let folder = tempfile::tempdir().unwrap();
    // The key would be written here first.
    fs::create_dir(folder.path().join("tls-key.new")).unwrap();
    let start = |tls| {
        let mut config = settings(&folder);
        config.tls = tls;
        directory::start(config, Arc::new(NoRelay::default()))
    };
    let error = format!("{:#}", start(Tls::SelfSigned).unwrap_err());
    assert!(error.contains("cannot write") && error.contains("tls-key.pem"), "{error}");
    let running = start(Tls::Offered).unwrap();
    assert_eq!(running.tls_fingerprint(), None);
    assert_eq!(number(&Client { stream: plain(running.local_addrs()[0]) }.ask(registration(&key(1)))), NodeId(1));
    assert!(!running.reload_certificate(&Tls::Offered).unwrap(), "nothing new is wanted");
    running.shutdown();

    fs::remove_dir(folder.path().join("tls-key.new")).unwrap();
    let running = start(Tls::Offered).unwrap();
    let fingerprint = running.tls_fingerprint().unwrap();
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("tls-key.pem"), mode("tls-cert.pem")), (0o600, 0o644));
    assert_eq!(
        number(&Client { stream: tls(running.local_addrs()[0], &folder) }.ask(registration(&key(1)))),
        NodeId(1)
    );
    running.shutdown();
    assert_eq!(start(Tls::SelfSigned).unwrap().tls_fingerprint(), Some(fingerprint), "it stays the same");

    // One that was there and is broken is somebody's who pins it.
    fs::write(folder.path().join("tls-cert.pem"), "half a certificate").unwrap();
    let error = format!("{:#}", start(Tls::Offered).unwrap_err());
    assert!(error.contains("remove tls-cert.pem and tls-key.pem") && error.contains("--tls off"), "{error}");
}
