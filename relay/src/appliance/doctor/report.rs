//! Prints the verdicts: a line each for people, an array for programs.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::check::{Check, Status};

const RESET: &str = "\x1b[0m";

/// For people. The advice stands below what was found, with the heading of the tuning guide that explains it.
pub fn text(checks: &[Check], coloured: bool) -> String {
    let width = checks.iter().map(|check| check.topic.id.len()).max().unwrap_or_default();
    let mut out = String::new();
    for check in checks {
        let (colour, reset) = if coloured { (colour(check.status), RESET) } else { ("", "") };
        let (word, id) = (check.status.word(), check.topic.id);
        let _ = writeln!(out, "  {colour}{word:<7}{reset}  {id:<width$}  {}", check.finding);
        if let Some(advice) = &check.advice {
            let _ = writeln!(out, "  {:<7}  {:<width$}  -> {advice}  [{}]", "", "", check.topic.heading);
        }
    }
    let _ = writeln!(out, "\n{}", summary(checks));
    if checks.iter().any(|check| check.advice.is_some()) {
        let _ = writeln!(out, "Why each, what it gives and how to undo it: tuning/README.md, under the [heading].");
    }
    out
}

/// For programs: an array, a check an object.
pub fn json(checks: &[Check]) -> Value {
    let object = |check: &Check| {
        json!({
            "id": check.topic.id,
            "status": check.status.word(),
            "finding": check.finding,
            "advice": check.advice,
            "see": check.topic.heading,
            "values": check.values,
        })
    };
    checks.iter().map(object).collect()
}

fn summary(checks: &[Check]) -> String {
    let count = |status: Status| checks.iter().filter(|check| check.status == status).count();
    let counts: Vec<String> = Status::ALL.map(|status| format!("{} {}", count(status), status.word())).to_vec();
    let verdict = match checks.iter().map(|check| check.status).max() {
        Some(Status::Problem) => "a relay with these flags would not serve as it should",
        Some(Status::Warn) => "a relay with these flags serves, and would do so better",
        _ => "nothing has to change",
    };
    format!("{}: {verdict}.", counts.join(", "))
}

const fn colour(status: Status) -> &'static str {
    match status {
        Status::Ok => "\x1b[32m",
        Status::Note => "\x1b[36m",
        Status::Warn => "\x1b[33m",
        Status::Problem => "\x1b[1;31m",
    }
}

#[cfg(test)]
mod tests {
    use super::super::topics::{CLOCK, MTU};
    use super::*;

    #[test]
    fn people_get_lines_and_programs_an_array() {
        let checks = [CLOCK.ok("tsc"), MTU.warn("small", "make it larger").value("mtu", 1000)];
        let expected = "  ok       clock  tsc\n  warn     mtu    small\n                  -> make it larger  [MTU]\n\n\
            1 ok, 0 note, 1 warn, 0 problem: a relay with these flags serves, and would do so better.\n\
            Why each, what it gives and how to undo it: tuning/README.md, under the [heading].\n";
        assert_eq!(text(&checks, false), expected);
        assert!(text(&checks, true).contains("\x1b[33mwarn   \x1b[0m"));
        let array = json(&checks);
        assert_eq!(array[1]["values"]["mtu"], 1000);
        assert_eq!((array[0]["status"].as_str(), &array[0]["advice"]), (Some("ok"), &Value::Null));
    }
}
