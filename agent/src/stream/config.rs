//! What a stream may use.

use super::congestion::Algorithm;

/// The longest segment that stays whole when sealed and relayed (section 8.2).
pub const SEGMENT_BYTES: u16 = 1152;

/// What a stream may use.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Longest segment sent, at least 2.
    pub segment_bytes_max: u16,
    /// Segments kept for the application and advertised as the window.
    pub receive_slots: u16,
    /// Bytes written and not acknowledged.
    pub send_buffer_bytes: usize,
    /// Hold short writes back while others are on their way (RFC 896). Off: agents ask and answer.
    pub nagle: bool,
    /// Who decides how much to send.
    pub algorithm: Algorithm,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            segment_bytes_max: SEGMENT_BYTES,
            receive_slots: 1024,
            send_buffer_bytes: 4 << 20,
            nagle: false,
            algorithm: Algorithm::Bbr,
        }
    }
}
