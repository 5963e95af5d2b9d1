//! What a confined process can do no more, and what it still can: this program starts itself once for each, as filters
//! cannot be taken off again. No test of a harness, whose threads would run already.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, ToSocketAddrs as _, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;

use confinement::{Confinement, Mode, Rings, harden, seal};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, raise};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// Names the attempt to make, by its place in the list.
const ATTEMPT: &str = "CONFINEMENT_ATTEMPT";
/// How one ends that went as it should.
const AS_IT_SHOULD: i32 = 42;
const PANICKED: i32 = 101;
const NO_LANDLOCK: i32 = 43;

/// What is tried, and how the process has to end.
struct Attempt {
    name: &'static str,
    make: fn(&Place),
    ends: fn(ExitStatus) -> bool,
}

/// Where it happens: `own` may be written, `read` may be read, `other` is nobody's business.
struct Place {
    own: PathBuf,
    other: PathBuf,
    read: PathBuf,
    /// A port that may be connected to, and one that may not.
    ports: (u16, u16),
}

const fn fine(name: &'static str, make: fn(&Place)) -> Attempt {
    Attempt { name, make, ends: |status| status.code() == Some(AS_IT_SHOULD) }
}

const fn fatal(name: &'static str, make: fn(&Place)) -> Attempt {
    Attempt { name, make, ends: |status| status.signal() == Some(Signal::SIGSYS as i32) }
}

const ATTEMPTS: &[Attempt] = &[
    fine("files of its own", |place| {
        let file = place.own.join("new");
        fs::write(&file, "text").unwrap();
        fs::create_dir(place.own.join("folder")).unwrap();
        fs::rename(&file, place.own.join("folder/renamed")).unwrap();
        fs::remove_file(place.own.join("folder/renamed")).unwrap();
        let mode = fs::metadata(place.own.join("folder")).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "others have no right to what is new");
    }),
    fine("files it reads, replaced meanwhile", |place| {
        assert_eq!(fs::read(&place.read).unwrap(), b"replaced");
        refused(fs::write(&place.read, "x"), libc::EACCES);
    }),
    fine("files of others", |place| {
        let secret = place.other.join("secret");
        refused(fs::read(&secret), libc::EACCES);
        refused(fs::write(&secret, "x"), libc::EACCES);
        refused(File::create(place.other.join("new")), libc::EACCES);
        refused(fs::read_dir(&place.other), libc::EACCES);
        assert!(fs::hard_link(&secret, place.own.join("link")).is_err());
    }),
    fine("a socket in its folder", |place| {
        let path = place.own.join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        UnixStream::connect(&path).unwrap().write_all(b"x").unwrap();
        listener.accept().unwrap();
    }),
    fine("threads", |place| {
        let other = place.other.clone();
        // As confined as the one that starts it.
        thread::spawn(move || refused(fs::read(other.join("secret")), libc::EACCES)).join().unwrap();
    }),
    fine("keys, which are locked as they come", |_| {
        let keys: Vec<_> = (0..200).map(|_| secrets::Locked::new([1_u8; 900])).collect();
        let usage = secrets::usage();
        assert!(usage.locked_bytes >= 200 * 900 && usage.unlocked_bytes == 0, "{usage:?}");
        drop(keys);
        assert_eq!(secrets::usage(), secrets::Usage::default());
    }),
    fine("names of hosts", |_| assert!(("localhost", 1).to_socket_addrs().unwrap().next().is_some())),
    fine("its own facts", |_| {
        assert!(fs::read_to_string("/proc/self/stat").unwrap().contains('('));
        assert!(fs::read_dir("/proc/self/fd").unwrap().count() > 2);
        assert!(fs::read_to_string("/sys/class/net/lo/mtu").is_ok());
        let status = fs::read_to_string("/proc/self/status").unwrap();
        for line in ["CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.contains(line), "{status}");
        }
    }),
    fine("TCP", |place| {
        TcpStream::connect((Ipv4Addr::LOCALHOST, place.ports.0)).unwrap();
        refused(TcpStream::connect((Ipv4Addr::LOCALHOST, place.ports.1)), libc::EACCES);
        refused(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)), libc::EACCES);
    }),
    fine("UDP", |_| drop(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())),
    fine("packets of the host", |_| {
        let packets = socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None);
        assert_eq!(packets.unwrap_err(), nix::Error::ENOSYS);
    }),
    fine("a ring", |_| refused(io_uring::IoUring::new(8), libc::ENOSYS)),
    fine("a process", |_| refused(Command::new("/bin/true").spawn(), libc::ENOSYS)),
    fatal("a program", |_| _ = nix::unistd::execv(c"/bin/true", &[c"/bin/true"])),
    fatal("another view of the host", |_| _ = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS)),
    fatal("another user", |_| _ = nix::unistd::setuid(nix::unistd::getuid())),
    fatal("another root", |place| _ = nix::unistd::chroot(&place.own)),
    Attempt { name: "a panic", make: |_| panic!("as wanted"), ends: |status| status.code() == Some(PANICKED) },
    Attempt {
        name: "a crash without a core dump",
        make: |_| raise(Signal::SIGABRT).unwrap(),
        ends: |status| status.signal() == Some(Signal::SIGABRT as i32) && !status.core_dumped(),
    },
];

fn refused<T>(result: io::Result<T>, errno: i32) {
    let error = result.err().expect("it was allowed");
    assert_eq!(error.raw_os_error(), Some(errno), "{error}");
}

fn main() -> ExitCode {
    if let Ok(index) = std::env::var(ATTEMPT) {
        make(&ATTEMPTS[index.parse::<usize>().unwrap()]);
    }
    if run(0).status.code() == Some(NO_LANDLOCK) {
        say("not run: this kernel has no Landlock, or not all of it");
        return ExitCode::SUCCESS;
    }
    let failed = (0..ATTEMPTS.len()).filter(|index| !has_gone_well(*index)).count();
    strict_needs_every_part();
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::print_stdout, reason = "the result of the tests")]
fn say(text: &str) {
    println!("{text}");
}

fn run(index: usize) -> std::process::Output {
    Command::new(std::env::current_exe().unwrap()).env(ATTEMPT, index.to_string()).output().unwrap()
}

fn has_gone_well(index: usize) -> bool {
    let (attempt, output) = (&ATTEMPTS[index], run(index));
    let well = (attempt.ends)(output.status);
    say(&format!("{} ... {}", attempt.name, if well { "ok" } else { "FAILED" }));
    if !well {
        say(&format!("{}\n{}", output.status, String::from_utf8_lossy(&output.stderr)));
    }
    well
}

/// In a process of its own, from which it does not return.
fn make(attempt: &Attempt) -> ! {
    // As after `ulimit -c unlimited`.
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    setrlimit(Resource::RLIMIT_CORE, hard, hard).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [own, other, settings] = ["own", "other", "settings"].map(|name| folder.path().join(name));
    for path in [&own, &other, &settings] {
        fs::create_dir(path).unwrap();
    }
    fs::write(other.join("secret"), "secret").unwrap();
    let read = settings.join("file");
    fs::write(&read, "first").unwrap();
    let listeners = [(); 2].map(|()| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let ports = (listeners[0].local_addr().unwrap().port(), listeners[1].local_addr().unwrap().port());
    std::env::set_current_dir(&own).unwrap();
    let replace = on_request(&format!("cd '{}' && printf replaced >new && mv new file", settings.display()));
    harden(Mode::Strict);
    let needs = Confinement {
        mode: Mode::Strict,
        reads: vec![read.clone()],
        writes: vec![own.clone()],
        connects: vec![ports.0],
        ..Confinement::default()
    };
    if let Err(error) = needs.enter() {
        let _ = writeln!(io::stderr(), "{error}");
        std::process::exit(if error.to_string().contains("Landlock") { NO_LANDLOCK } else { 1 });
    }
    seal(Mode::Strict, Rings::Made).unwrap();
    replace();
    (attempt.make)(&Place { own, other, read, ports });
    std::process::exit(AS_IT_SHOULD);
}

/// A command that is started now, and does its work when it is told to.
#[expect(clippy::zombie_processes, reason = "a confined process cannot wait for another, and ends soon")]
fn on_request(script: &str) -> impl FnOnce() + use<> {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("read go; {script}")]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    move || {
        drop(child.stdin.take());
        // Its end closes the pipe; to wait for processes is on no list.
        let mut end = child.stdout.take().unwrap();
        io::copy(&mut end, &mut io::sink()).unwrap();
    }
}

/// A process with a second thread is not wholly confined.
fn strict_needs_every_part() {
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let second = thread::spawn(move || _ = wait.recv());
    let needs = Confinement { mode: Mode::Strict, ..Confinement::default() };
    let error = needs.enter().expect_err("a thread escaped").to_string();
    assert!(error.contains("2 threads") && error.contains("--confinement strict"), "{error}");
    drop(end);
    second.join().unwrap();
    say("strict needs every part ... ok");
}
