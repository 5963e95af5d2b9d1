//! The daemon's figures as text for Prometheus.

use std::fmt::Write as _;

use super::ipc::Context;
use super::observe::Observer;
use crate::node::{Counters, PeerInfo};
use crate::registration::Status;

/// The figures now.
#[must_use]
pub fn text(context: &Context, observer: &Observer) -> String {
    let mut out = Families::default();
    let (counters, peers, live_retransmissions, streams, relay, registration) = context.core.look(|node| {
        let peers: Vec<PeerInfo> = node.peers().filter(|peer| peer.has_session).collect();
        let live: u64 = node.streams().map(|stream| stream.metrics.retransmissions).sum();
        (node.counters(), peers, live, node.streams().count(), node.relay(), node.registration())
    });
    traffic(&mut out, &counters);
    let direct = peers.iter().filter(|peer| peer.direct.is_some()).count() as u64;
    out.family(
        "peers",
        "gauge",
        "Peers with a session, by path.",
        "path",
        &[("direct", direct), ("relay", peers.len() as u64 - direct)],
    );
    out.one("sessions_total", "counter", "Sessions established.", counters.sessions);
    out.one("rekeyings_total", "counter", "Ephemeral keys negotiated.", counters.rekeyings);
    out.one("handshakes_failed_total", "counter", "Exchanges of keys that have failed.", counters.handshakes_failed);
    out.one("streams", "gauge", "Streams now open.", streams as u64);
    out.family(
        "stream_dials_total",
        "counter",
        "Streams dialled that came to an end of dialling.",
        "outcome",
        &[("opened", counters.streams_opened), ("failed", counters.streams_failed)],
    );
    out.family(
        "stream_arrivals_total",
        "counter",
        "Streams that peers wanted to open.",
        "outcome",
        &[("accepted", counters.streams_accepted), ("refused", counters.streams_refused)],
    );
    let retransmissions = counters.retransmissions + live_retransmissions;
    out.one("stream_retransmissions_total", "counter", "Segments sent again.", retransmissions);
    out.family(
        "punches_total",
        "counter",
        "Searches for a direct path.",
        "outcome",
        &[("direct", counters.paths_direct), ("failed", counters.punches_failed)],
    );
    out.one("paths_lost_total", "counter", "Direct paths that were lost.", counters.paths_lost);
    out.durations("dial_duration_seconds", "From the wish for a stream to its opening.", &observer.dials());
    let is_registered = matches!(registration, Status::Registered(_));
    out.one("directory_up", "gauge", "Whether the directory has this node and answers.", is_registered.into());
    out.one("relay_up", "gauge", "Whether a relay answers.", relay.is_some().into());
    let exporter = observer.exporter();
    out.family(
        "spans_total",
        "counter",
        "Spans of traces, by what became of them.",
        "outcome",
        &[("exported", exporter.exported()), ("failed", exporter.failed()), ("lost", exporter.lost())],
    );
    let (written, dropped) = observer.events().counts();
    out.family(
        "event_log_lines_total",
        "counter",
        "Lines of the event log.",
        "outcome",
        &[("written", written), ("dropped", dropped)],
    );
    out.one("ipc_clients", "gauge", "Clients on the unix socket.", context.clients.get() as u64);
    out.text.push_str(&telemetry::process_metrics::text("pilot-agent", env!("CARGO_PKG_VERSION")));
    out.text
}

fn traffic(out: &mut Families, counters: &Counters) {
    let Counters { datagrams_sent, datagrams_received, bytes_sent, bytes_received, dropped, .. } = *counters;
    out.family(
        "datagrams_total",
        "counter",
        "Datagrams of the tunnel socket.",
        "direction",
        &[("sent", datagrams_sent), ("received", datagrams_received)],
    );
    out.family(
        "bytes_total",
        "counter",
        "Bytes of them.",
        "direction",
        &[("sent", bytes_sent), ("received", bytes_received)],
    );
    out.header("peer_bytes_total", "counter", "Bytes of frames of peers, by direction and path.");
    for (direction, path, value) in [
        ("sent", "direct", counters.bytes_sent_direct),
        ("sent", "relay", counters.bytes_sent_relayed),
        ("received", "direct", counters.bytes_received_direct),
        ("received", "relay", counters.bytes_received_relayed),
    ] {
        out.line(&format!("peer_bytes_total{{direction=\"{direction}\",path=\"{path}\"}} {value}"));
    }
    out.one("datagrams_dropped_total", "counter", "Datagrams that were of no use.", dropped);
    out.one("frames_not_opened_total", "counter", "Frames that did not open.", counters.not_opened);
    out.one("strangers_refused_total", "counter", "What strangers sent and was not let in.", counters.strangers);
}

/// Families of figures, as text.
#[derive(Default)]
struct Families {
    text: String,
}

impl Families {
    fn header(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP pilot_agent_{name} {help}\n# TYPE pilot_agent_{name} {kind}");
    }

    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "pilot_agent_{line}");
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: u64) {
        self.header(name, kind, help);
        self.line(&format!("{name} {value}"));
    }

    fn family(&mut self, name: &str, kind: &str, help: &str, label: &str, values: &[(&str, u64)]) {
        self.header(name, kind, help);
        for (value, count) in values {
            self.line(&format!("{name}{{{label}=\"{value}\"}} {count}"));
        }
    }

    fn durations(&mut self, name: &str, help: &str, durations: &super::observe::durations::Durations) {
        self.header(name, "histogram", help);
        for (bound, count) in durations.cumulative() {
            self.line(&format!("{name}_bucket{{le=\"{bound}\"}} {count}"));
        }
        self.line(&format!("{name}_bucket{{le=\"+Inf\"}} {}", durations.count()));
        self.line(&format!("{name}_sum {}", durations.sum().as_secs_f64()));
        self.line(&format!("{name}_count {}", durations.count()));
    }
}
