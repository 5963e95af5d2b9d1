//! As much of HTTP/1.1 as exporters speak: POST with a length, one after the other on a connection.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

/// Bytes of a request line or header.
const LINE_BYTES_MAX: u64 = 8 * 1024;
/// Bytes of a body.
const BODY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Serves requests until the client goes: `handle` gets path and body, and tells the status.
pub fn serve(stream: TcpStream, handle: impl Fn(&str, Vec<u8>) -> u16) {
    let mut reader = BufReader::new(&stream);
    while let Ok(Some((path, body))) = request(&mut reader) {
        let status = handle(&path, body);
        // An empty body is an ExportTraceServiceResponse without complaints.
        let answer =
            format!("HTTP/1.1 {status} -\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n");
        if (&stream).write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
}

fn request(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<(String, Vec<u8>)>> {
    let first = line(reader)?;
    let Some(path) = first.split(' ').nth(1) else { return Ok(None) };
    let mut length = 0;
    loop {
        let header = line(reader)?;
        let Some((name, value)) = header.split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    if length > BODY_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((path.to_owned(), body)))
}

fn line(reader: &mut BufReader<&TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    reader.take(LINE_BYTES_MAX).read_line(&mut line)?;
    Ok(line.trim_end().to_owned())
}
