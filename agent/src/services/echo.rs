//! Echo, port 7: gives back what it reads.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Bytes taken at once. A peer that reads nothing is read from no further.
const PIECE: usize = 16 << 10;

/// Serves one stream until its end.
///
/// # Errors
/// What the stream says.
pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S) -> io::Result<()> {
    let mut buffer = vec![0; PIECE];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            len => stream.write_all(&buffer[..len]).await?,
        }
        stream.flush().await?;
    }
}
