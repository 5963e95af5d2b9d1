//! Runs system commands and turns failures into messages that name the command.

use std::io::Write;
use std::process::{Command, Output, Stdio};

/// Runs the command line to its end and returns standard output.
///
/// # Panics
/// When the program is missing or fails; the message holds what it wrote.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(output.status.success(), "{command:?} failed ({}): {}", output.status, text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Like [`run`], with `input` on standard input.
#[track_caller]
pub fn run_with_input(command: &mut Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("standard input was piped");
    stdin.write_all(input.as_bytes()).unwrap_or_else(|error| panic!("{command:?} does not read its input: {error}"));
    drop(stdin);
    let output = child.wait_with_output().expect("the child was started here");
    assert!(output.status.success(), "{command:?} failed ({}): {}\n{input}", output.status, text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs the command line to its end, whatever that is.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"))
}

/// Everything a command wrote.
pub fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
