//! Two daemons and their clients: streams, datagrams, trust, broadcasts.

use wire::address::SocketAddress;
use wire::ipc::{HandshakeRequest, NetworkRequest, Reply, Request};

use crate::world::{World, run};

#[test]
fn bytes_go_both_ways_and_the_end_is_told() {
    run(|| async {
        let world = World::new();
        let (alpha, bravo) = (world.daemon("alpha").await, world.daemon("bravo").await);
        let (mut a, mut b) = (alpha.client().await, bravo.client().await);
        let port = b.bind(5000).await;
        let target = b.node().await;
        let here = a.dial(target, port).await;
        let there = b.accepted().await;
        let question: Vec<u8> = (0..1_000_000_u32).map(|number| (number % 251) as u8).collect();
        for piece in question.chunks(100_000) {
            a.send(Request::Send { connection: here, data: piece }).await;
        }
        assert!(b.receive(there, question.len()).await == question, "other bytes have come");
        b.send(Request::Send { connection: there, data: b"thanks" }).await;
        assert_eq!(a.receive(here, 6).await, b"thanks");
        b.send(Request::Close { connection: there }).await;
        b.closed(there).await;
        a.closed(here).await;
        let text = a.refused(Request::Send { connection: here, data: b"more" }).await;
        assert!(text.contains("closed"), "{text}");
    });
}

#[test]
fn nobody_listens() {
    run(|| async {
        let world = World::new();
        let (alpha, bravo) = (world.daemon("alpha").await, world.daemon("bravo").await);
        let target = bravo.client().await.node().await;
        let to = SocketAddress { address: target.address(), port: 9 };
        assert_eq!(alpha.client().await.refused(Request::Dial { to }).await, "connection refused");
    });
}

#[test]
fn a_node_reaches_itself() {
    run(|| async {
        let world = World::new();
        let alpha = world.daemon("alpha").await;
        let (mut a, mut b) = (alpha.client().await, alpha.client().await);
        let port = b.bind(0).await;
        let own = a.node().await;
        let here = a.dial(own, port).await;
        let there = b.accepted().await;
        a.send(Request::Send { connection: here, data: b"trace-0" }).await;
        assert_eq!(b.receive(there, 7).await, b"trace-0");
    });
}

#[test]
fn datagrams_come_to_whoever_has_the_port_and_answers_come_back() {
    run(|| async {
        let world = World::new();
        let (alpha, bravo) = (world.daemon("alpha").await, world.daemon("bravo").await);
        let (mut a, mut b, mut bystander) = (alpha.client().await, bravo.client().await, bravo.client().await);
        let port = b.bind(6000).await;
        let target = b.node().await;
        let to = |port| SocketAddress { address: target.address(), port };
        let answer = a.ask(Request::SendToConfirmed { to: to(port), data: b"dgram" }).await;
        assert_eq!(answer.reply(), Reply::Answer { command: 0x3A, json: "" });
        let frame = b.await_frame(|reply| matches!(reply, Reply::RecvFrom { .. })).await;
        let Reply::RecvFrom { source, port: came_to, data } = frame.reply() else { unreachable!("just checked") };
        assert_eq!((came_to, data), (6000, b"dgram".as_slice()));
        b.send(Request::SendTo { to: source, data: b"back" }).await;
        let frame = a.await_frame(|reply| matches!(reply, Reply::RecvFrom { .. })).await;
        assert!(matches!(frame.reply(), Reply::RecvFrom { data: b"back", .. }), "{frame:?}");
        // A port that nobody has is everyone's, as with older daemons.
        a.send(Request::SendTo { to: to(6001), data: b"anyone" }).await;
        for client in [&mut b, &mut bystander] {
            let frame = client.await_frame(|reply| matches!(reply, Reply::RecvFrom { .. })).await;
            assert!(matches!(frame.reply(), Reply::RecvFrom { port: 6001, data: b"anyone", .. }), "{frame:?}");
        }
    });
}

#[test]
fn trust_is_asked_for_given_and_taken_back() {
    run(|| async {
        let world = World::new();
        let (alpha, bravo) = (world.daemon("alpha").await, world.daemon("bravo").await);
        let (mut a, mut b) = (alpha.client().await, bravo.client().await);
        let (node_a, node_b) = (a.node().await, b.node().await);
        let send = HandshakeRequest::Send { node: node_b, justification: "hello" };
        assert_eq!(a.ask(Request::Handshake(send)).await.json()["status"], "sent");
        loop {
            let pending = b.ask(Request::Handshake(HandshakeRequest::Pending)).await.json();
            if pending["pending"][0]["node_id"] == node_a.0 {
                assert_eq!(pending["pending"][0]["justification"], "hello");
                break;
            }
            tokio::time::sleep(crate::world::LOOK).await;
        }
        // What a client is told has been done is in the file already.
        let kept = |name: &str| -> serde_json::Value {
            let path = world.folder().join(name).join("trust.json");
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
        };
        b.ask(Request::Handshake(HandshakeRequest::Approve { node: node_a })).await.json();
        assert_eq!(kept("bravo")["trusted"].as_array().unwrap().len(), 1);
        let wait = HandshakeRequest::WaitForTrust { node: node_b, timeout_ms: 60_000 };
        assert_eq!(a.ask(Request::Handshake(wait)).await.json()["trusted"], true);
        assert_eq!(a.trusted().await["trusted"][0]["node_id"], node_b.0);
        let revoke = HandshakeRequest::Revoke { node: node_b };
        assert_eq!(a.ask(Request::Handshake(revoke)).await.json()["status"], "revoked");
        assert_eq!(kept("alpha")["trusted"].as_array().unwrap().len(), 0);
        let now = HandshakeRequest::WaitForTrust { node: node_b, timeout_ms: 0 };
        assert_eq!(a.ask(Request::Handshake(now)).await.json()["trusted"], false);
        alpha.stop().await.unwrap();
        bravo.stop().await.unwrap();
        assert_eq!(kept("alpha")["trusted"].as_array().unwrap().len(), 0);
    });
}

#[test]
fn names_visibility_and_tags_go_to_the_directory() {
    run(|| async {
        let world = World::new();
        let alpha = world.daemon("alpha").await;
        let mut client = alpha.client().await;
        let node = client.node().await;
        let answer = client.ask(Request::SetHostname("alpha-2")).await.json();
        assert_eq!(answer["hostname"], "alpha-2");
        assert_eq!(client.info().await["hostname"], "alpha-2");
        assert_eq!(client.ask(Request::ResolveHostname("alpha-2")).await.json()["node_id"], node.0);
        assert_eq!(client.ask(Request::SetVisibility { public: false }).await.json()["visibility"], "private");
        assert_eq!(client.ask(Request::SetTags(r##"["#gpu"]"##)).await.json()["tags"][0], "gpu");
        for (request, hint) in [
            (Request::SetHostname("Not Good"), "invalid hostname"),
            (Request::SetTags("gpu"), "JSON array"),
            (Request::ResolveHostname("nobody"), "not found"),
            (Request::SetWebhook("http://h/"), "posts no events"),
            (Request::RotateKey, "cannot change its key"),
            (Request::SubmitBadge("{}"), "hosted service"),
            (Request::Extension(r#"{"op":"dance"}"#), "it knows explain, stop, "),
        ] {
            let text = client.refused(request).await;
            assert!(text.contains(hint), "{request:?}: {text}");
        }
    });
}

#[test]
fn envelopes_are_checked_by_others() {
    run(|| async {
        let world = World::new();
        let (alpha, bravo) = (world.daemon("alpha").await, world.daemon("bravo").await);
        let (mut a, mut b) = (alpha.client().await, bravo.client().await);
        let body_hash = "0".repeat(64);
        let text = serde_json::json!({ "audience": "example.org", "body_hash": body_hash }).to_string();
        let signed = a.ask(Request::SignEnvelope(&text)).await.json();
        let mut check = serde_json::json!({ "envelope": signed["envelope"], "signature": signed["signature"] });
        let verdict = b.ask(Request::VerifyEnvelope(&check.to_string())).await.json();
        assert_eq!((&verdict["valid"], &verdict["node_id"]), (&true.into(), &a.node().await.0.into()));
        check["envelope"] = signed["envelope"].as_str().unwrap().replace("example.org", "example.com").into();
        let verdict = b.ask(Request::VerifyEnvelope(&check.to_string())).await.json();
        assert_eq!(verdict["valid"], false);
    });
}

#[test]
fn networks_are_the_directorys_business() {
    run(|| async {
        let world = World::new();
        let alpha = world.daemon("alpha").await;
        let mut client = alpha.client().await;
        let list = client.ask(Request::Network(NetworkRequest::List)).await.json();
        assert_eq!(list["networks"][0]["name"], "backbone");
        let text = client.refused(Request::Network(NetworkRequest::Join { network: 77, token: "" })).await;
        assert!(text.contains("not found"), "{text}");
    });
}

#[test]
fn a_broadcast_reaches_the_members_of_a_network() {
    run(|| async {
        let world = World::new();
        let (alpha, bravo) = (world.daemon("alpha").await, world.daemon("bravo").await);
        let (mut a, mut b) = (alpha.client().await, bravo.client().await);
        let network = world.network(a.node().await).await;
        for client in [&mut a, &mut b] {
            let join = NetworkRequest::Join { network, token: "" };
            let joined = client.ask(Request::Network(join)).await;
            let own = client.info().await;
            assert_eq!(own["networks"], serde_json::json!([network]), "{joined:?}");
        }
        let port = b.bind(6000).await;
        let sent = a.ask(Request::Broadcast { network, port, token: "", data: b"to all" }).await.json();
        assert_eq!(sent["recipients"], 1);
        let frame = b.await_frame(|reply| matches!(reply, Reply::RecvFrom { .. })).await;
        assert!(matches!(frame.reply(), Reply::RecvFrom { port: 6000, data: b"to all", .. }), "{frame:?}");
        let leave = NetworkRequest::Leave { network };
        b.ask(Request::Network(leave)).await.json();
        assert_eq!(b.info().await["networks"], serde_json::Value::Null);
    });
}

#[test]
fn paths_are_explained() {
    run(|| async {
        let world = World::new();
        let (alpha, bravo) = (world.daemon("alpha").await, world.daemon("bravo").await);
        let mut client = alpha.client().await;
        let target = bravo.client().await.node().await;
        let explain = serde_json::json!({ "op": "explain", "node_id": target }).to_string();
        let text = client.refused(Request::Extension(&explain)).await;
        assert!(text.contains("pilotctl ping"), "{text}");
        client.dial(target, 7).await;
        let explained = client.ask(Request::Extension(&explain)).await.json();
        assert_eq!(explained["node_id"], target.0);
        assert!(!explained["why"].as_str().unwrap().is_empty(), "{explained}");
        let preferred = client.ask(Request::PreferDirect { node: target }).await.json();
        assert_eq!((&preferred["had_tunnel"], &preferred["pila_pushed"]), (&true.into(), &true.into()));
    });
}
