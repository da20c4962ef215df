//! Programs that run to their end.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::{Error, Result};

/// How long a program of the lab may take.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Runs `argv` with `input`, and kills it after `within`.
///
/// # Errors
/// If it cannot be run or did not end in time; not if it ended badly.
pub fn output(argv: &[&str], input: &str, within: Duration) -> Result<Output> {
    let what = argv.join(" ");
    let mut child = Command::new("timeout")
        .args(["--signal=KILL", &within.as_secs_f64().to_string()])
        .args(argv)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io(format!("run {what}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input is no error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(Error::io(format!("wait for {what}")))?;
    if output.status.code() == Some(137) {
        return Err(Error::Timeout { what: format!("the end of `{what}`"), within });
    }
    Ok(output)
}

/// Runs `argv` and gives its standard output.
///
/// # Errors
/// If it fails, with everything it printed.
pub fn stdout(argv: &[&str]) -> Result<String> {
    stdout_of(argv, "")
}

/// The same with `input`.
///
/// # Errors
/// If it fails, with everything it printed.
pub fn stdout_of(argv: &[&str], input: &str) -> Result<String> {
    let output = output(argv, input, DEADLINE)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if !output.status.success() {
        let output_text = format!("{}{}{input}", text(&output.stdout), text(&output.stderr));
        return Err(Error::Command {
            command: argv.join(" "),
            status: output.status.to_string(),
            output: output_text,
        });
    }
    Ok(text(&output.stdout))
}
