//! A client of the admin address: one request a connection, HTTP/1.1 without TLS, as the relay speaks it.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use zeroize::Zeroizing;

use crate::appliance::data_dir;
use crate::appliance::phase::Phase;

const TIMEOUT: Duration = Duration::from_secs(30);
/// A page of nodes is far smaller.
const ANSWER_BYTES_MAX: u64 = 64 << 20;

/// Why it was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The relay says no.
    Refused(String),
    /// There is no such node.
    Unknown(String),
    /// No relay answers.
    Unreachable(String),
    /// The token is missing or wrong.
    Token(String),
    /// Something else.
    Other(String),
    /// Some of several were not done, and it has been said why; the highest of their exit statuses.
    Several(u8, String),
}

impl Failure {
    /// As `nodes --help` lists them.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status())
    }

    const fn status(&self) -> u8 {
        match self {
            Self::Refused(_) | Self::Other(_) => 1,
            Self::Unknown(_) => 3,
            Self::Unreachable(_) => 4,
            Self::Token(_) => 5,
            Self::Several(status, _) => *status,
        }
    }

    /// Whether the same would be said of any other node.
    pub const fn concerns_all(&self) -> bool {
        !matches!(self, Self::Refused(_) | Self::Unknown(_))
    }

    /// What is to be said after `failures` of `count` nodes, if there were any; `untried` are those that were left out.
    pub fn of_several(failures: &[Self], count: usize, untried: &[String]) -> Option<Self> {
        let status = failures.iter().map(Self::status).max()?;
        let left_out = match untried {
            [] => String::new(),
            _ => format!("; not tried: {}", untried.join(", ")),
        };
        Some(Self::Several(status, format!("{} of {count} not done{left_out}", failures.len() + untried.len())))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Refused(text)
        | Self::Unknown(text)
        | Self::Unreachable(text)
        | Self::Token(text)
        | Self::Other(text)
        | Self::Several(_, text)) = self;
        out.write_str(text)
    }
}

/// Who asks, and whom.
#[derive(Debug)]
pub struct Client {
    /// `HOST:PORT`.
    address: String,
    token: Zeroizing<String>,
}

impl Client {
    /// A client of the relay at `http` that shows the token in `token_file`, else in the data folder.
    pub fn new(http: &str, token_file: Option<PathBuf>, data_dir: Option<PathBuf>) -> Result<Self, Failure> {
        let address = address(http).map_err(Failure::Other)?;
        let file = match token_file {
            Some(file) => file,
            None => data_dir::token_file(data_dir).map_err(|error| Failure::Token(format!("{error:#}")))?,
        };
        let token = std::fs::read_to_string(&file).map(Zeroizing::new).map_err(|error| {
            let advice = match error.kind() {
                io::ErrorKind::PermissionDenied => "run this as the user the relay runs as, or as root",
                _ => "name the relay's data folder with --data-dir, or the file with --admin-token-file",
            };
            Failure::Token(format!("cannot read the admin token from {}: {error}; {advice}", file.display()))
        })?;
        let token = Zeroizing::new(token.trim().to_owned());
        if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Failure::Token(format!("{} holds no admin token; it is one word on one line", file.display())));
        }
        let client = Self { address, token };
        client.meet()?;
        Ok(client)
    }

    /// Sees that a relay answers before the token is shown: any program may have its port.
    fn meet(&self) -> Result<(), Failure> {
        let answer = self.exchange("GET", "/healthz", "", false).map_err(|error| self.unreachable(&error))?;
        let is_relay = |body: &[u8]| Phase::ALL.iter().any(|phase| phase.text().as_bytes() == body.trim_ascii());
        parse(&answer).filter(|(_, body)| is_relay(body)).map(drop).ok_or_else(|| self.is_other())
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let address = &self.address;
        Failure::Unreachable(format!(
            "no relay answers at http://{address}: {error}; start it, or name its admin address with --http"
        ))
    }

    fn is_other(&self) -> Failure {
        let address = &self.address;
        Failure::Unreachable(format!(
            "what answers at http://{address} is no relay; name its admin address with --http"
        ))
    }

    /// Asks.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask("GET", path, "")
    }

    /// Has something done.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask("POST", path, &body)
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Result<Value, Failure> {
        let answer = self.exchange(method, path, body, true).map_err(|error| self.unreachable(&error))?;
        let (status, body) = parse(&answer).ok_or_else(|| self.is_other())?;
        let json: Option<Value> = serde_json::from_slice(body).ok();
        let text = |json: &Option<Value>| match json.as_ref().and_then(|json| json["error"].as_str()) {
            Some(error) => error.to_owned(),
            None => String::from_utf8_lossy(body).trim().chars().take(200).collect(),
        };
        match (status, json) {
            (200, Some(json)) => Ok(json),
            (401 | 403, json) => Err(Failure::Token(text(&json))),
            (429, json) => Err(Failure::Token(format!(
                "{}. So many came from where you ask that the right one is not believed either: some program here, or behind the \
                 same proxy, tries other tokens at http://{}; the relay's log tells of each (\"an operator was refused\")",
                text(&json),
                self.address
            ))),
            (404, json) if json.as_ref().is_some_and(|json| json["error"].is_string()) => {
                Err(Failure::Unknown(text(&json)))
            }
            (404, _) => Err(Failure::Other(format!(
                "the relay at http://{} knows no nodes: it has no directory of its own (--registry off), or is older",
                self.address
            ))),
            (status, json) => Err(Failure::Refused(format!("{} (HTTP {status})", text(&json)))),
        }
    }

    fn exchange(&self, method: &str, path: &str, body: &str, shows_token: bool) -> io::Result<Vec<u8>> {
        let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in self.address.to_socket_addrs()? {
            let mut stream = match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => stream,
                Err(error) => {
                    refused = error;
                    continue;
                }
            };
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            let (host, length) = (&self.address, body.len());
            let head = format!(
                "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {length}\r\n"
            );
            let token = if shows_token { ["Authorization: Bearer ", &self.token, "\r\n"] } else { [""; 3] };
            // `concat` makes room for all of it at once: a text that grows leaves copies behind.
            let request = Zeroizing::new([&head, &*Zeroizing::new(token.concat()), "\r\n", body].concat());
            stream.write_all(request.as_bytes())?;
            let mut answer = Vec::new();
            stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer)?;
            return Ok(answer);
        }
        Err(refused)
    }
}

/// The status and the body of an answer whose end is that of the connection.
fn parse(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, &answer[end + 4..]))
}

/// `HOST:PORT` of an admin address, with or without `http://` before and a slash behind.
fn address(http: &str) -> Result<String, String> {
    if http.starts_with("https://") {
        return Err("the admin address speaks no TLS; write http://, and reach a distant one through ssh -L".to_owned());
    }
    let address = http.strip_prefix("http://").unwrap_or(http).trim_end_matches('/');
    let port = address.rsplit_once(':').filter(|(host, _)| !host.is_empty()).map(|(_, port)| port.parse::<u16>());
    match port {
        Some(Ok(_)) if !address.contains(['/', '@', ' ', '\r', '\n']) => Ok(address.to_owned()),
        _ => Err(format!("--http {http:?} is no admin address; write it as 127.0.0.1:3000")),
    }
}

/// `text` as one part of a path.
pub fn encoded(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    let whole: String = text.bytes().map(byte).collect();
    // A path of its own would be taken for the one above.
    match whole.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => whole,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_as_people_write_them() {
        for text in ["127.0.0.1:3000", "http://127.0.0.1:3000", "http://127.0.0.1:3000/"] {
            assert_eq!(address(text).as_deref(), Ok("127.0.0.1:3000"));
        }
        assert_eq!(address("[::1]:3000").as_deref(), Ok("[::1]:3000"));
        for text in ["", ":3000", "host", "host:", "host:99999", "http://host:1/path", "a@b:1", "a\r\nb:1"] {
            assert!(address(text).is_err(), "{text:?}");
        }
        assert!(address("https://host:3000").unwrap_err().contains("no TLS"));
    }

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(encoded("0:0000.0000.0005"), "0%3A0000.0000.0005");
        assert_eq!(encoded("a/b+c=?#é"), "a%2Fb%2Bc%3D%3F%23%C3%A9");
        assert_eq!((encoded("."), encoded("..")), ("%2E".into(), "%2E%2E".into()));
    }

    #[test]
    fn answers_are_read_and_others_are_not_mistaken_for_them() {
        assert_eq!(parse(b"HTTP/1.1 404 Not Found\r\nA: b\r\n\r\nbody"), Some((404, &b"body"[..])));
        for other in [&b""[..], b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n"] {
            assert_eq!(parse(other), None);
        }
    }
}
