//! Frames on the daemon's socket: laid-out requests, recorded exchanges, and the traffic of a real command-line tool.

use serde_json::Value;
use wire::address::SocketAddress;
use wire::ipc::{
    self, HandshakeRequest as Handshake, ManagedRequest as Managed, NetworkRequest as Network, Reply, Request,
};
use wire::{DecodeError, NodeId};

use crate::fixtures::{Vector, document, hex, number};

/// Requests and daemon frames of v1.2.2.
pub fn check(vector: &Vector) -> Option<()> {
    if let Some(bytes) = &vector.bytes {
        let frame = only_frame(bytes);
        match expected(&vector.name)? {
            Ok(request) => same_request(request, bytes),
            Err(error) => assert_eq!(Request::decode(&frame), Err(error)),
        }
    } else if !["accept_from_node_2", "recvfrom_pushed"].contains(&vector.name.as_str()) {
        return None;
    }
    let frames = vector.expect["daemon_frames"].as_array().expect("what the daemon says");
    let pushed = pushed(&vector.name);
    assert!(pushed.is_empty() || pushed.len() == frames.len());
    for (at, frame) in frames.iter().enumerate() {
        daemon_frame(frame, pushed.get(at).copied(), &vector.expect["driver_error"]);
    }
    Some(())
}

/// Requests of the newest driver.
pub fn check_newest(vector: &Vector) -> Option<()> {
    same_request(expected_newest(&vector.name)?, vector.bytes());
    Some(())
}

fn expected(name: &str) -> Option<Result<Request<'static>, DecodeError>> {
    let handshake = |request| Ok(Request::Handshake(request));
    Some(match name {
        "bind_5000" | "bind_5000_again" => Ok(Request::Bind { port: 5000 }),
        "dial_echo_on_node_2" => Ok(Request::Dial { to: socket(2, 7) }),
        "dial_closed_port" => Ok(Request::Dial { to: socket(2, 9) }),
        "send_hello" => Ok(Request::Send { connection: 1, data: b"hello" }),
        "close" => Ok(Request::Close { connection: 1 }),
        "sendto_node_2_port_6000" => Ok(Request::SendTo { to: socket(2, 6000), data: b"dgram" }),
        "sendto_broadcast_refused" => Ok(Request::SendTo { to: socket(NodeId::BROADCAST.0, 6000), data: b"x" }),
        "info" => Ok(Request::Info),
        "resolve_hostname_beta" => Ok(Request::ResolveHostname("beta")),
        "set_hostname" => Ok(Request::SetHostname("alpha-2")),
        "set_visibility_private" => Ok(Request::SetVisibility { public: false }),
        "set_tags" => Ok(Request::SetTags(r#"["web","gpu"]"#)),
        "set_webhook_clear" => Ok(Request::SetWebhook("")),
        "set_task_exec" => Ok(Request::SetTaskExec { enabled: true }),
        "deregister" => Ok(Request::Deregister),
        "handshake_send_node_2" => handshake(Handshake::Send { node: NodeId(2), justification: "hello there" }),
        "handshake_pending" => handshake(Handshake::Pending),
        "handshake_trusted" => handshake(Handshake::Trusted),
        "handshake_approve_node_9" => handshake(Handshake::Approve { node: NodeId(9) }),
        "handshake_reject_node_9" => handshake(Handshake::Reject { node: NodeId(9), reason: "no" }),
        "handshake_revoke_untrusted" => handshake(Handshake::Revoke { node: NodeId(9) }),
        "raw_unknown_command" => Err(DecodeError::UnknownType(0x7F)),
        "raw_dial_short" => Err(DecodeError::Truncated { needed: 6, found: 2 }),
        "raw_send_unknown_conn" => Ok(Request::Send { connection: 65535, data: b"x" }),
        "raw_close_unknown_conn" => Ok(Request::Close { connection: 65535 }),
        _ => return None,
    })
}

/// The frames of the daemon that are neither JSON nor an error.
fn pushed(name: &str) -> Vec<Reply<'static>> {
    match name {
        "bind_5000" => vec![Reply::BindOk { port: 5000 }],
        "dial_echo_on_node_2" => vec![Reply::DialOk { connection: 1 }],
        "send_hello" => vec![Reply::Recv { connection: 1, data: b"hello" }],
        "close" => vec![Reply::CloseOk { connection: 1 }; 2],
        "raw_close_unknown_conn" => vec![Reply::CloseOk { connection: 65535 }],
        "accept_from_node_2" => vec![
            Reply::Accept { listen_port: 5000, connection: 3, remote: socket(2, 49152) },
            Reply::Recv { connection: 3, data: b"hi" },
            Reply::CloseOk { connection: 3 },
        ],
        "recvfrom_pushed" => vec![Reply::RecvFrom { source: socket(2, 49153), port: 6001, data: b"ping" }],
        _ => Vec::new(),
    }
}

fn expected_newest(name: &str) -> Option<Request<'static>> {
    let node = NodeId(2);
    Some(match name {
        "dial" => Request::Dial { to: socket(2, 1001) },
        "bind" => Request::Bind { port: 5000 },
        "sendto" => Request::SendTo { to: socket(2, 6000), data: b"dgram" },
        "broadcast" => Request::Broadcast { network: 7, port: 6000, token: "tok", data: b"hi" },
        "health" => Request::Health,
        "handshake_wait_for_trust" => Request::Handshake(Handshake::WaitForTrust { node, timeout_ms: 5000 }),
        "network_list" => Request::Network(Network::List),
        "network_join" => Request::Network(Network::Join { network: 7, token: "abc" }),
        "network_leave" => Request::Network(Network::Leave { network: 7 }),
        "network_members" => Request::Network(Network::Members { network: 7 }),
        "network_invite" => Request::Network(Network::Invite { network: 7, node }),
        "network_poll_invites" => Request::Network(Network::PollInvites),
        "network_respond_invite" => Request::Network(Network::RespondInvite { network: 7, accept: true }),
        "managed_status" => Request::Managed(Managed::Status { network: 7 }),
        "managed_cycle" => Request::Managed(Managed::Cycle { network: 7 }),
        "managed_reconcile" => Request::Managed(Managed::Reconcile { network: 7 }),
        "policy_get" => Request::Managed(Managed::PolicyGet { network: 7 }),
        "policy_set" => Request::Managed(Managed::PolicySet { network: 7, token: "tok", policy: "{}" }),
        "member_tags_get" => Request::Managed(Managed::MemberTagsGet { network: 7, node }),
        "member_tags_set" => Request::Managed(Managed::MemberTagsSet { network: 7, node, tags: r#"["a","b"]"# }),
        "rotate_key" => Request::RotateKey,
        "prefer_direct" => Request::PreferDirect { node },
        "submit_badge" => Request::SubmitBadge(r#"{"badge":"B","badge_sig":"S"}"#),
        "enroll_recovery" => Request::EnrollRecovery(r#"{"enrollment":"E","enrollment_sig":"S"}"#),
        "sign_envelope" => Request::SignEnvelope(
            r#"{"audience":"example.org","body_hash":"0000000000000000000000000000000000000000000000000000000000000000"}"#,
        ),
        "verify_envelope" => {
            Request::VerifyEnvelope(r#"{"check_standing":true,"envelope":"ENV","max_skew_secs":0,"signature":"U0lH"}"#)
        }
        "verify_envelope_max_skew_60" => Request::VerifyEnvelope(
            r#"{"check_standing":false,"envelope":"ENV","max_skew_secs":60,"signature":"U0lH"}"#,
        ),
        _ => return None,
    })
}

fn daemon_frame(frame: &Value, pushed: Option<Reply<'_>>, driver_error: &Value) {
    let command = frame["cmd"].as_str().and_then(|cmd| cmd.strip_prefix("0x")).map(hex).expect("a command")[0];
    let json = frame["json"].to_string();
    // The recording of an answer whose values vary holds its JSON only.
    let bytes = frame["hex"].as_str().map_or_else(|| encoded(Reply::Answer { command, json: &json }), hex);
    let content = only_frame(&bytes);
    let reply = Reply::decode(&content).expect("a reply");
    assert_eq!(content[0], command);
    assert_eq!(encoded(reply), bytes);
    match reply {
        Reply::Answer { command: answer, json } => {
            assert_eq!(answer, command);
            assert_eq!(serde_json::from_str::<Value>(json).expect("JSON"), frame["json"]);
        }
        Reply::Error { code, text } => {
            assert_eq!(code, ipc::ERROR_CODE);
            assert!(!text.is_empty());
            assert!(driver_error.as_str().is_none_or(|error| error.ends_with(text)));
        }
        binary => assert_eq!(Some(binary), pushed),
    }
}

/// What one command line of the real tool put on the socket.
pub struct Captured {
    entry: Value,
}

/// The entries of the capture.
pub fn captured(file: &str) -> Vec<Captured> {
    let entries = document(file)["entries"].as_array().expect("entries").clone();
    entries.into_iter().map(|entry| Captured { entry }).collect()
}

impl Captured {
    /// The command line.
    pub fn command(&self) -> &str {
        self.entry["command"].as_str().expect("a command line")
    }

    /// All frames are known, each answer answers the request before it, and the command line's own request is there.
    pub fn check(&self) -> Option<()> {
        let own = own_request(self.command())?;
        let mut own_seen = false;
        let mut asked = None;
        for frame in self.entry["frames"].as_array().expect("frames") {
            let content = hex(frame["hex"].as_str().expect("bytes"));
            let length: u32 = number(&frame["length"]);
            let whole = [&length.to_be_bytes(), content.as_slice()].concat();
            let again = match frame["direction"].as_str()? {
                "client→daemon" => {
                    let request = Request::decode(&content).expect("a known request");
                    own_seen |= own == request;
                    asked = Some(content[0]);
                    encoded_request(request)
                }
                "daemon→client" => {
                    let reply = Reply::decode(&content).expect("a known reply");
                    if let Reply::Answer { command, .. } = reply {
                        assert_eq!(Some(command - 1), asked);
                    }
                    encoded(reply)
                }
                _ => return None,
            };
            if frame.get("truncated").is_some() {
                assert!(next_frame(&whole).is_none(), "a cut frame is not complete");
                assert_eq!(again[4..], content);
            } else {
                assert_eq!(only_frame(&whole), content);
                assert_eq!(again, whole);
            }
        }
        assert!(own_seen, "{own:?} expected");
        Some(())
    }
}

/// The request by which a command line is told from others.
fn own_request(command: &str) -> Option<Request<'static>> {
    let command = command.strip_prefix("pilotctl ")?;
    let command = command.strip_prefix("--json ").unwrap_or(command);
    let handshake = Request::Handshake;
    Some(match command {
        "info" | "peers" | "connections" | "daemon status" => Request::Info,
        "health" => Request::Health,
        "find bravo" => Request::ResolveHostname("bravo"),
        "ping bravo --count 2" | "ping bravo --count 1" | "bench bravo 1" => Request::Dial { to: socket(1, 7) },
        "handshake bravo hello" => handshake(Handshake::Send { node: NodeId(1), justification: "hello" }),
        "pending" => handshake(Handshake::Pending),
        "trust" => handshake(Handshake::Trusted),
        "set-hostname alpha2" => Request::SetHostname("alpha2"),
        "extras set-tags papers" => Request::SetTags(r#"["papers"]"#),
        "set-public" => Request::SetVisibility { public: true },
        "connect bravo 7 --message hey" => Request::Send { connection: 6, data: b"hey" },
        "send bravo 7 --data hi" => Request::Send { connection: 7, data: b"hi" },
        "dgram bravo 2000 --data dg" => Request::SendToConfirmed { to: socket(1, 2000), data: b"dg" },
        "send-message bravo --data hello there" | "send-file bravo f.txt" => Request::Dial { to: socket(1, 1001) },
        "publish bravo news --data x" => Request::Dial { to: socket(1, 1002) },
        "traceroute 0:0000.0000.0001" => Request::Send { connection: 12, data: b"trace-0" },
        "traceroute 0:0000.0000.0002" => Request::Send { connection: 13, data: b"trace-0" },
        "extras network list" => Request::Network(Network::List),
        "disconnect 1" => Request::Close { connection: 1 },
        "prefer-direct bravo" => Request::PreferDirect { node: NodeId(1) },
        _ => return None,
    })
}

fn socket(node: u32, port: u16) -> SocketAddress {
    SocketAddress { address: NodeId(node).address(), port }
}

fn same_request(request: Request<'_>, bytes: &[u8]) {
    assert_eq!(Request::decode(&only_frame(bytes)), Ok(request));
    assert_eq!(encoded_request(request), bytes);
}

fn encoded_request(request: Request<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    request.encode(&mut out);
    out
}

fn encoded(reply: Reply<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    reply.encode(&mut out);
    out
}

fn only_frame(bytes: &[u8]) -> Vec<u8> {
    next_frame(bytes).expect("a complete frame")
}

/// The frame in `bytes`, fed in two pieces; nothing may be left over.
fn next_frame(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut decoder = ipc::frame_decoder();
    let (mut head, mut tail) = bytes.split_at(bytes.len() / 2);
    assert_eq!(decoder.decode(&mut head), Ok(None));
    let frame = decoder.decode(&mut tail).expect("a length under the limit")?.to_vec();
    assert!(tail.is_empty());
    Some(frame)
}
