//! How a relay takes over from the one before it, and hands over to the next.
