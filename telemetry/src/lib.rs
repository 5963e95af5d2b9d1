//! What the programs have in common to be followed: logs, spans of traces, flight recorders.
//!
//! | module | what |
//! |---|---|
//! | [`log`] | the log of a process: text for people, JSON with stable fields for collectors |
//! | [`span`] | a span as a plain value, made after the fact by whoever knows when it began and ended |
//! | [`export`] | hands spans to a collector (OTLP); never waits, and counts what it loses |
//! | [`event_log`] | events of a program in a file that rotates by itself |
//! | [`prometheus`], [`process_metrics`] | figures as text for Prometheus, and those that every process has |
//! | `collector` | a receiver of OTLP for tests (feature `collector`) |
//! | [`recorder`] | the last events of each of many subjects, in bounded memory |
#![forbid(unsafe_code)]

#[cfg(feature = "collector")]
pub mod collector;
pub mod event_log;
pub mod export;
pub mod log;
pub mod process_metrics;
pub mod prometheus;
pub mod recorder;
pub mod span;

pub use event_log::EventLog;
pub use export::Exporter;
pub use recorder::Recorder;
pub use span::Span;
