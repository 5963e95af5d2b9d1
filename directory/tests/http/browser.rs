//! The pages as people see them, in Chromium. With `PILOT_SCREENSHOTS=FOLDER` it leaves pictures there.

use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use directory::http::Server;
use directory::http::connections::Patience;
use directory::http::places::Bounds;
use directory::{Config, NoRelay};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::json;
use wire::registry::request::Register;
use wire::registry::{Base64, Operation, Request, push_message};

use crate::webdriver::Browser;
use crate::world::{Served, TOKEN, fleet, node, serve_with, traffic};

fn url(address: SocketAddr, path: &str) -> String {
    format!("http://{address}{path}")
}

/// Registers a node at a directory at work, as any client does.
fn register(directory: SocketAddr, seed: u8) {
    let key = SigningKey::from_bytes(&[seed; 32]);
    let operation = Operation::Register(Register {
        listen_addr: "192.0.2.7:4000".into(),
        public_key: Base64(key.verifying_key().to_bytes()),
        owner: String::new(),
        hostname: String::new(),
        version: String::new(),
        lan_addrs: vec![],
        relay_only: false,
    });
    let text = operation.signed_text().unwrap();
    let request = Request { signature: Some(Base64(key.sign(text.as_bytes()).to_bytes())), ..operation.into() };
    let mut frame = Vec::new();
    push_message(&mut frame, &request);
    let mut stream = TcpStream::connect(directory).unwrap();
    std::io::Write::write_all(&mut stream, &frame).unwrap();
    // The answer is there when the node is.
    std::io::Read::read_exact(&mut stream, &mut [0; 4]).unwrap();
}

/// Pages may ask nobody but the server they come from, and have nothing to complain of.
fn assert_clean(browser: &Browser, address: SocketAddr) {
    let own = url(address, "/");
    let requested = browser.requested();
    assert!(requested.iter().any(|url| url.starts_with(&own)), "{requested:?}");
    let foreign: Vec<_> = requested.iter().filter(|url| !url.starts_with(&own) && !url.starts_with("data:")).collect();
    assert_eq!(foreign, Vec::<&String>::new());
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_registration_is_seen_without_a_reload() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = Config::new(folder.path());
    config.listen = vec!["127.0.0.1:0".parse().unwrap()];
    let running = directory::start(config, Arc::new(NoRelay::default())).unwrap();
    let step = Duration::from_millis(100);
    let loopback = "127.0.0.1:0".parse().unwrap();
    let site = running.site(None);
    let (bounds, patience) = (Bounds::connections(), Patience::default());
    let server = Server::start_with(loopback, Some(site), |_| axum::Router::new(), step, bounds, patience).unwrap();
    let browser = Browser::start();
    browser.open(&url(server.address(), "/"));
    browser.wait_for("live", "document.getElementById('state').dataset.state === 'live'");
    assert_eq!((browser.text("[data-f=online]"), browser.text("[data-f=registered]")), ("0".into(), "0".into()));
    // Gone after a reload.
    browser.value("window.stayed = true");

    register(running.local_addrs()[0], 1);
    browser.wait_for("one node", "document.querySelector('[data-f=registered]').textContent === '1'");
    register(running.local_addrs()[0], 2);
    browser.wait_for("two nodes", "document.querySelector('[data-f=online]').textContent === '2'");
    assert_eq!(browser.value("window.stayed"), json!(true));
    assert_eq!(browser.value("document.title"), json!("2 online · Pilot network"));
    assert_clean(&browser, server.address());

    drop(server);
    browser.wait_for("lost", "document.getElementById('state-text').textContent === 'Connection lost'");
    assert_eq!(browser.text("[data-f=online]"), "2", "the last figures stay");
}

/// A fleet that has been watched for a day and has grown for weeks.
fn watched(folder: &Path) -> Served {
    let file = folder.join("growth.csv");
    let hours = (0..45 * 24_u64).map(|hour| {
        let began = 1_800_259_200 - (45 * 24 - hour) * 3600;
        let registered = 140 + (hour * hour) / 734 + (hour % 24) / 3;
        format!("{began},{registered},{}\n", registered * 3 / 4)
    });
    let text: String = hours.collect();
    std::fs::write(&file, format!("hour_unix_seconds,registered,online_peak\n{text}")).unwrap();
    let served = serve_with(fleet(), |settings| settings.growth_file = Some(file), Patience::default());
    for _ in 0..43_200 {
        served.step(traffic);
    }
    served
}

fn keep(browser: &Browser, name: &str, whole: bool) {
    let Some(folder) = std::env::var_os("PILOT_SCREENSHOTS") else { return };
    let png = base64::engine::general_purpose::STANDARD.decode(browser.picture(whole)).unwrap();
    std::fs::write(Path::new(&folder).join(format!("{name}.png")), png).unwrap();
}

/// The arrow keys, as WebDriver spells them.
const LEFT: &str = "\u{E012}";
const RIGHT: &str = "\u{E014}";
const IS_LIVE: &str = "document.getElementById('state').dataset.state === 'live'";
/// Nothing is wider than the window.
const FITS: &str = "document.documentElement.scrollWidth <= window.innerWidth";

#[test]
fn the_page_fits_phones_and_desks_by_day_and_night() {
    let folder = tempfile::tempdir().unwrap();
    let served = watched(folder.path());
    let browser = Browser::start();
    let mut grounds = Vec::new();
    for (name, width, height, is_phone, scheme) in [
        ("desktop-light", 1280, 900, false, "light"),
        ("desktop-dark", 1280, 900, false, "dark"),
        ("phone-light", 390, 844, true, "light"),
        ("phone-dark", 390, 844, true, "dark"),
        ("phone-narrow", 360, 740, true, "light"),
    ] {
        browser.screen(width, height, is_phone);
        browser.colors(scheme);
        browser.open(&url(served.address(), "/"));
        browser.wait_for("live", IS_LIVE);
        browser.wait_for("a chart", "!!document.querySelector('#traffic-chart .line')");
        assert_eq!(browser.value(FITS), json!(true), "{name} is too wide");
        assert_eq!(browser.value("document.querySelectorAll('#groups tr').length"), json!(4));
        grounds.push(browser.value("getComputedStyle(document.body).backgroundColor").to_string());
        keep(&browser, name, false);
        keep(&browser, &format!("{name}-whole"), true);
    }
    assert_eq!(grounds[0], grounds[2]);
    assert_ne!(grounds[0], grounds[1], "night looks like day");
    assert_clean(&browser, served.address());
}

#[test]
fn charts_follow_the_figures_and_the_keyboard() {
    let folder = tempfile::tempdir().unwrap();
    let served = watched(folder.path());
    let browser = Browser::start();
    browser.screen(1280, 900, false);
    browser.open(&url(served.address(), "/"));
    browser.wait_for("a chart", "!!document.querySelector('#traffic-chart .line')");
    browser.type_in("input[name=range][value=recent]", RIGHT);
    browser.wait_for("24 hours", "document.querySelector('#traffic-chart figcaption').textContent === 'last 24 hours'");
    keep(&browser, "desktop-24-hours", false);
    browser.type_in("input[name=range][value=day]", LEFT);

    let line = "document.querySelector('#traffic-chart .line').getAttribute('d')";
    let before = browser.value(line);
    served.step(|state| state.relay.shards[0].forwarded_bytes += 100_000_000);
    browser.wait_for("a new point", &format!("{line} !== {before}"));
    assert_eq!(browser.text("[data-f=bits]"), "400");
    browser.type_in("#traffic-chart svg", LEFT);
    browser.wait_for("a readout", "document.querySelector('#traffic-chart figcaption').textContent.includes('Mbit/s')");
    assert_clean(&browser, served.address());
}

#[test]
fn an_operator_logs_in_and_what_nodes_say_stays_text() {
    let hostile = "<img src=/evil onerror=window.owned=1>\u{202e}gpj";
    let mut state = fleet();
    state.nodes.push(node(44, hostile));
    state.overview.groups.push(crate::world::group(9, hostile, "open", 3, 3));
    let served = serve_with(state, |_| {}, Patience::default());
    served.step(traffic);
    served.step(traffic);
    let browser = Browser::start();
    browser.screen(1280, 900, false);
    browser.open(&url(served.address(), "/operator"));
    keep(&browser, "operator-login", false);
    assert_clean(&browser, served.address());
    browser.type_in("#token", "a guess");
    browser.click("form button");
    browser.wait_for("refused", "document.querySelector('.alert').textContent.includes('not the token')");
    // Chromium notes the 401 in the console, which is what was asked for.
    browser.complaints();
    browser.type_in("#token", TOKEN);
    browser.click("form button");
    browser.wait_for("in", IS_LIVE);
    assert_eq!(browser.value("document.cookie"), json!(""), "scripts cannot read the session");

    browser.type_in("#q", "evil\n");
    browser.wait_for("found", "document.querySelectorAll('.node').length === 1");
    assert_eq!(browser.value("document.querySelector('.node h3').textContent"), json!(hostile));
    let groups = browser.value("document.getElementById('groups').textContent");
    assert!(groups.as_str().unwrap().contains(hostile));
    browser.open(&url(served.address(), "/"));
    browser.wait_for("live", IS_LIVE);
    assert!(
        browser.value("document.getElementById('groups').textContent").as_str().unwrap().contains("<img src=/evil")
    );
    assert_eq!(browser.value("window.owned === undefined"), json!(true));
    let requested = browser.requested();
    assert!(!requested.iter().any(|url| url.ends_with("/evil")), "{requested:?}");

    browser.open(&url(served.address(), "/operator?q=specialist-papers"));
    browser.wait_for("found", "document.querySelectorAll('.why li').length === 3");
    browser.wait_for("drops", "document.querySelectorAll('#drops tr').length === 4");
    assert!(browser.text(".why").contains("RFC 4787"));
    keep(&browser, "operator-desktop-whole", true);
    browser.colors("dark");
    browser.screen(390, 844, true);
    browser.open(&url(served.address(), "/operator?q=specialist-papers"));
    browser.wait_for("found", "document.querySelectorAll('.why li').length === 3");
    assert_eq!(browser.value(FITS), json!(true));
    keep(&browser, "operator-phone-whole", true);
    assert_clean(&browser, served.address());

    browser.click(".quiet-button");
    browser.wait_for("out", "!!document.getElementById('token')");
    assert_clean(&browser, served.address());
}
