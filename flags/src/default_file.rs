//! The file that a package installs: every key with what its flag's help says, commented out, so that the program runs
//! as if there were no file.

use std::fmt::Write as _;

use clap::{Arg, Command};

use crate::program::{in_file, is_list};

/// Columns of a comment.
const WIDTH: usize = 110;

/// The file for the flags of `command`, under `heading`. `examples` has a value in TOML for keys whose default cannot be written down.
#[must_use]
pub fn default_file(command: &Command, heading: &str, examples: &[(&str, &str)]) -> String {
    let mut text = String::new();
    comment(&mut text, heading);
    for arg in in_file(command) {
        let Some(key) = arg.get_long() else { continue };
        text.push('\n');
        comment(&mut text, &arg.get_help().map(ToString::to_string).unwrap_or_default());
        let values: Vec<String> = arg.get_possible_values().iter().map(|value| value.get_name().to_owned()).collect();
        let example = examples.iter().find(|(name, _)| *name == key).map(|(_, value)| (*value).to_owned());
        if arg.get_action().takes_values() && !values.is_empty() && !is_switch(arg) {
            comment(&mut text, &format!("One of: {}", values.join(", ")));
        }
        let value = example.unwrap_or_else(|| value_of(arg, key, &values));
        let _ = writeln!(text, "#{key} = {value}");
    }
    text
}

fn is_switch(arg: &Arg) -> bool {
    arg.get_value_names().is_some_and(|names| names.iter().any(|name| *name == "BOOL"))
}

/// The default; where there is none, something that can be read.
fn value_of(arg: &Arg, key: &str, values: &[String]) -> String {
    if is_switch(arg) {
        return "false".to_owned();
    }
    let name = arg.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
    let text = match arg.get_default_values() {
        [value, ..] => value.to_string_lossy().into_owned(),
        [] if !values.is_empty() => values[0].clone(),
        [] => match name {
            "FILE" | "PATH" => format!("/etc/{key}"),
            "DIR" => format!("/var/lib/{key}"),
            "ADDR" | "IP:PORT" => "127.0.0.1:3000".to_owned(),
            "CIDR" => "10.0.0.0/8".to_owned(),
            "URL" => "http://127.0.0.1:4318".to_owned(),
            "HOST:PORT" | "HOST[:PORT]" => "relay.example.org:9001".to_owned(),
            "TEXT" | "NAME" | "TITLE" | "TAG" => key.to_owned(),
            _ => "1".to_owned(),
        },
    };
    let value = if text.parse::<i64>().is_ok() { text } else { format!("{text:?}") };
    if is_list(arg) { format!("[{value}]") } else { value }
}

fn comment(text: &mut String, words: &str) {
    for line in words.lines() {
        let mut column = 0;
        text.push('#');
        for word in line.split(' ') {
            if column + word.len() > WIDTH {
                text.push_str("\n#");
                column = 0;
            }
            text.push(' ');
            text.push_str(word);
            column += word.len() + 1;
        }
        while text.ends_with(' ') {
            text.pop();
        }
        text.push('\n');
    }
}

/// The lines of a default file with their marks taken away, one by one: each has to be a setting that is accepted.
#[must_use]
pub fn settings_in(text: &str) -> Vec<String> {
    let key = |line: &&str| line.starts_with(|first: char| first.is_ascii_lowercase());
    text.lines().filter_map(|line| line.strip_prefix('#')).filter(key).map(str::to_owned).collect()
}
