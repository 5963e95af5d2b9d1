//! The page as it is without scripts: figures put into `assets/index.html` where it says `{{name}}`. What the script
//! later puts there, it writes in the same way.

use std::fmt::{self, Write as _};

use super::status::{GroupSum, Paths, Status};

const PAGE: &str = include_str!("assets/index.html");
const LOGIN: &str = include_str!("assets/login.html");

/// Text as part of HTML, in an element or between double quotes.
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match char {
            '&' => f.write_str("&amp;"),
            '<' => f.write_str("&lt;"),
            '>' => f.write_str("&gt;"),
            '"' => f.write_str("&quot;"),
            '\'' => f.write_str("&#39;"),
            // Browsers have no picture of these, but programs that show the source may obey them.
            char if char.is_control() => f.write_char('\u{FFFD}'),
            char => f.write_char(char),
        })
    }
}

/// The status page.
#[must_use]
pub fn page(status: &Status) -> String {
    let relay = status.relay.as_ref();
    fill(PAGE, |name, out| match name {
        "version" => out.push_str(env!("CARGO_PKG_VERSION")),
        "online" => out.push_str(&count(status.nodes.online as u64)),
        "registered" => out.push_str(&count(status.nodes.registered as u64)),
        "capable" => out.push_str(&count(status.nodes.capable as u64)),
        "group_count" => out.push_str(&count(group_count(status) as u64)),
        "groups" => groups(status, out),
        "unnamed" => out.push_str(&unnamed(status)),
        "packets" => out.push_str(&rate(relay.map_or(0.0, |relay| relay.packets_per_second))),
        "bits" => out.push_str(&megabits(relay.map_or(0.0, |relay| relay.bits_per_second))),
        "no_relay" => out.push_str(if relay.is_none() { "hidden" } else { "" }),
        "shards" => shards(status, out),
        "share" => out.push_str(&share(&status.paths)),
        "direct" => out.push_str(&count(status.paths.direct)),
        "relayed" => out.push_str(&count(status.paths.relayed)),
        "share_note" => out.push_str(&share_note(&status.paths)),
        "direct_width" => out.push_str(&percent_of_bar(status.paths.direct_share)),
        "no_share" => out.push_str(if status.paths.direct_share.is_none() { "hidden" } else { "" }),
        other => unreachable!("index.html asks for {other}"),
    })
}

/// The form that asks for the token, with `message` above it.
#[must_use]
pub fn login(message: &str, has_form: bool) -> String {
    fill(LOGIN, |name, out| match name {
        "message" => _ = write!(out, "{}", Escaped(message)),
        "no_form" => out.push_str(if has_form { "" } else { "hidden" }),
        other => unreachable!("login.html asks for {other}"),
    })
}

/// Copies `template`, with `value` called for each `{{name}}`.
fn fill(template: &str, value: impl Fn(&str, &mut String)) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let (name, after) = after.split_once("}}").expect("the templates are closed");
        value(name, &mut out);
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Groups of all kinds.
fn group_count(status: &Status) -> usize {
    status.groups.len() + status.more_groups.groups + status.private_groups.groups
}

fn groups(status: &Status, out: &mut String) {
    let longest = status.groups.iter().map(|group| group.members).max().unwrap_or(0).max(1) as f64;
    for group in &status.groups {
        let width = |count: usize| count as f64 / longest * 100.0;
        let _ = write!(
            out,
            "<tr><th scope=\"row\"><bdi>{}</bdi></th><td class=\"bar-cell\"><svg class=\"bar\" viewBox=\"0 0 100 1\" \
             preserveAspectRatio=\"none\" aria-hidden=\"true\"><rect class=\"members\" width=\"{:.2}\" height=\"1\"/><rect \
             class=\"online\" width=\"{:.2}\" height=\"1\"/></svg></td><td class=\"number\">{}</td><td class=\"number \
             of\">{}</td></tr>",
            Escaped(&group.name),
            width(group.members),
            width(group.online),
            count(group.online as u64),
            count(group.members as u64),
        );
    }
}

/// Groups without a name, in words.
fn unnamed(status: &Status) -> String {
    let sum = |sum: GroupSum, one: &str, many: &str| {
        let what = if sum.groups == 1 { one } else { many };
        let (groups, online) = (count(sum.groups as u64), count(sum.online as u64));
        (sum.groups > 0).then(|| format!("{groups} {what} with {online} online"))
    };
    let parts = [
        sum(status.more_groups, "more open group", "more open groups"),
        sum(status.private_groups, "private group", "private groups"),
    ];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!("And {}.", parts.join(", ")) }
}

fn shards(status: &Status, out: &mut String) {
    for shard in status.relay.iter().flat_map(|relay| &relay.shards) {
        let cpu = shard.cpu.map_or_else(|| "–".to_owned(), |cpu| cpu.to_string());
        let _ = write!(
            out,
            "<tr><th scope=\"row\" data-label=\"Shard\">{}</th><td data-label=\"CPU\">{cpu}</td>",
            shard.shard
        );
        for (label, figure) in [
            ("Sessions", count(shard.sessions)),
            ("Packets/s", rate(shard.packets_per_second)),
            ("Mbit/s", megabits(shard.bits_per_second)),
            ("Drops/s", rate(shard.drops_per_second)),
            ("Kernel drops", count(shard.kernel_drops)),
        ] {
            let _ = write!(out, "<td data-label=\"{label}\">{figure}</td>");
        }
        out.push_str("</tr>");
    }
}

fn share(paths: &Paths) -> String {
    match paths.direct_share {
        Some(share) => format!("{:.0}\u{2009}%", share * 100.0),
        None => "not reported".to_owned(),
    }
}

fn share_note(paths: &Paths) -> String {
    if paths.reporting == 0 {
        return "No agent reports how it reaches its peers.".to_owned();
    }
    let agents = if paths.reporting == 1 { "agent reports" } else { "agents report" };
    format!("Peers, as {} {agents} them.", count(paths.reporting as u64))
}

fn percent_of_bar(share: Option<f64>) -> String {
    format!("{:.2}", share.unwrap_or(0.0) * 100.0)
}

/// `12,480`.
fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `0`, `3.4`, `12,480`.
fn rate(value: f64) -> String {
    if value > 0.0 && value < 9.95 { format!("{value:.1}") } else { count(value.round() as u64) }
}

/// Bits a second as Mbit/s: `0.04`, `3.4`, `12,480`.
fn megabits(bits_per_second: f64) -> String {
    let megabits = bits_per_second / 1e6;
    if megabits > 0.0 && megabits < 0.995 { format!("{megabits:.2}") } else { rate(megabits) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::status::Group;

    #[test]
    fn numbers_read_as_people_write_them() {
        assert_eq!([0, 999, 1000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.0, 0.04, 3.44, 9.96, 12_480.4].map(rate), ["0", "0.0", "3.4", "10", "12,480"]);
        assert_eq!([0.0, 40_000.0, 3.44e6, 1e9].map(megabits), ["0", "0.04", "3.4", "1,000"]);
    }

    #[test]
    fn names_are_text() {
        let hostile = "<img src=x onerror=alert(1)>\"'&\u{1b}[31m";
        let groups = vec![Group { name: hostile.into(), members: 4, online: 1 }];
        let page = page(&Status { groups, ..Status::default() });
        assert!(!page.contains("<img") && !page.contains('\u{1b}'));
        assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;&quot;&#39;&amp;\u{FFFD}[31m"));
        assert!(login("<b>", true).contains("&lt;b&gt;"));
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        for page in [page(&Status::default()), login("", true)] {
            assert!(!page.contains("{{") && !page.contains("}}"));
        }
    }

    #[test]
    fn what_nobody_reports_is_said_to_be_so() {
        assert!(page(&Status::default()).contains("not reported"));
        let paths = Paths { reporting: 1, direct: 9, relayed: 1, direct_share: Some(0.9) };
        assert_eq!(share(&paths), "90\u{2009}%");
        assert_eq!(share_note(&paths), "Peers, as 1 agent reports them.");
    }

    #[test]
    fn groups_without_a_name_are_counted_in_words() {
        let sum = |groups| GroupSum { groups, members: 9, online: 1200 };
        let status = Status { private_groups: sum(1), more_groups: sum(2), ..Status::default() };
        assert_eq!(unnamed(&status), "And 2 more open groups with 1,200 online, 1 private group with 1,200 online.");
    }
}
