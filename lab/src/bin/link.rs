//! Plays a line between two Ethernet interfaces of its network namespace: copies frames from each to the other, late and
//! not all of them. Says `ready`, then one line of JSON with what became of the frames for every line it reads; ends with
//! its standard input. `link DELAY_US LOSS_PPM BITS_PER_SECOND QUEUE_BYTES SEED INSIDE OUTSIDE`, 0 bits for no limit.

#![forbid(unsafe_code)]

use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use lab::{Link, Pipe, PipeStatistics, Stopwatch};
use nix::ifaddrs::getifaddrs;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::socket::{LinkAddr, SockaddrLike, bind, setsockopt, sockopt};
use nix::sys::time::TimeSpec;
use serde_json::json;
use socket2::{Domain, Protocol, Socket, Type};

/// All protocols, in network order as a packet socket wants it.
const ETH_P_ALL: u16 = 0x0003u16.to_be();
/// Half a second at 60 MB/s: what the kernel counts for a frame is about twice its length.
const RECEIVE_BUFFER_BYTES: usize = 64 << 20;
const FRAME_MAX: usize = 65_536;
/// Frames taken in before those that are due are looked at again.
const BATCH_MAX: usize = 64;
/// From so many frames in a turn on, a direction is busy and takes a breath, so that the next turn has as many to share
/// its cost; the daemons need the processor more.
const BUSY_FRAMES: usize = 3;
const BREATH: Duration = Duration::from_micros(200);

type Shared = Arc<Mutex<PipeStatistics>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Ok([delay, loss, rate, queue, seed, inside, outside]) = <[String; 7]>::try_from(arguments) else {
        return usage();
    };
    let Some(link) = Link::from_arguments(&[delay, loss, rate, queue, seed]) else { return usage() };
    match play(link, &inside, &outside) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("link: {error}");
            ExitCode::FAILURE
        }
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: link DELAY_US LOSS_PPM BITS_PER_SECOND QUEUE_BYTES SEED INSIDE OUTSIDE");
    ExitCode::from(2)
}

fn play(link: Link, inside: &str, outside: &str) -> io::Result<()> {
    let (inside, outside) = (Arc::new(open(inside)?), Arc::new(open(outside)?));
    let (outward, inward) = (Shared::default(), Shared::default());
    let directions = [
        (Pipe::new(link, 1), Arc::clone(&inside), Arc::clone(&outside), Arc::clone(&outward)),
        (Pipe::new(link, 2), outside, inside, Arc::clone(&inward)),
    ];
    for (pipe, from, to, statistics) in directions {
        thread::spawn(move || {
            let Err(error) = carry(pipe, &from, &to, &statistics);
            // The end of a story takes the interfaces away. Anything else is told: a line that is cut without a word
            // would look like a program that does not answer.
            if error.kind() != ErrorKind::NetworkDown {
                eprintln!("link: {error}");
            }
            std::process::exit(1);
        });
    }
    let tell = |line: String| writeln!(io::stdout().lock(), "{line}");
    tell("ready".to_owned())?;
    for _ in io::stdin().lock().lines() {
        tell(json!({ "outward": read(&outward).to_json(), "inward": read(&inward).to_json() }).to_string())?;
    }
    Ok(())
}

fn read(statistics: &Shared) -> PipeStatistics {
    *statistics.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A packet socket on one interface. It hears all of them until it is bound, and that is thrown away.
fn open(interface: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(ETH_P_ALL))))?;
    bind(socket.as_raw_fd(), &address_of(interface)?)?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES)?;
    socket.set_nonblocking(true)?;
    while (&socket).read(&mut [0; 64]).is_ok() {}
    Ok(socket)
}

fn address_of(interface: &str) -> io::Result<LinkAddr> {
    let addresses = getifaddrs()?.filter(|entry| entry.interface_name == interface);
    let mut links = addresses.filter_map(|entry| entry.address?.as_link_addr().copied());
    let found = links.find(|address| address.family().is_some());
    found.ok_or_else(|| io::Error::other(format!("there is no interface {interface}")))
}

/// One direction, for ever.
fn carry(mut pipe: Pipe, from: &Socket, to: &Socket, statistics: &Shared) -> io::Result<std::convert::Infallible> {
    let watch = Stopwatch::start();
    let mut frame = vec![0; FRAME_MAX];
    loop {
        let mut taken = 0;
        while taken < BATCH_MAX {
            match (&mut &*from).read(&mut frame) {
                Ok(length) => {
                    pipe.offer(watch.elapsed(), &frame[..length]);
                    taken += 1;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        while let Some(frame) = pipe.poll(watch.elapsed()) {
            // A host that goes away takes its end of the cable with it; what is sent to it is lost.
            let _ = (&mut &*to).write(&frame);
        }
        *statistics.lock().unwrap_or_else(PoisonError::into_inner) = pipe.statistics();
        let wait = pipe.next_departure().map(|due| TimeSpec::from(due.saturating_sub(watch.elapsed())));
        let mut readable = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        let waited = match taken {
            BATCH_MAX.. => continue,
            BUSY_FRAMES.. => ppoll(&mut [], Some(TimeSpec::from(BREATH)), None),
            _ => ppoll(&mut readable, wait, None),
        };
        match waited {
            Ok(_) | Err(nix::Error::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
