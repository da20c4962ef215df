//! Hooks: scripts that are run and webhooks that are asked, each within its limit.

mod post;
mod script;

pub use post::{Post, post};
pub(in crate::io) use script::attempt;
pub use script::{Script, Trusted, examine, run};

/// As much as is kept of what a call printed, in bytes and in lines.
const KEPT: usize = 4096;
const LINES: usize = 20;

/// How a call went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Why it failed, in words.
    pub result: Result<(), String>,
    /// The end of what it printed, or of the answer.
    pub output: String,
}

impl Outcome {
    fn failed(why: impl Into<String>) -> Self {
        Self { result: Err(why.into()), output: String::new() }
    }
}

/// The end of a stream of bytes.
#[derive(Debug, Default)]
struct Tail(Vec<u8>);

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        let over = self.0.len().saturating_sub(KEPT);
        self.0.drain(..over);
    }

    /// The last lines, without what would steer a terminal.
    fn text(&self) -> String {
        let all = String::from_utf8_lossy(&self.0);
        let clean = |line: &str| {
            let kept = line.chars().map(|c| if c == '\t' { ' ' } else { c });
            kept.filter(|c| !c.is_control()).collect::<String>().trim_end().to_owned()
        };
        let lines: Vec<_> = all.lines().map(clean).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_kept_and_it_is_clean() {
        let mut tail = Tail::default();
        for n in 0..5000 {
            tail.push(format!("line {n}\x1b[31m\r\n\n").as_bytes());
        }
        assert!(tail.0.len() <= KEPT);
        let text = tail.text();
        assert_eq!(text.lines().count(), LINES);
        assert!(text.ends_with("line 4999[31m"), "{text}");
        tail.push(b"\xff\xfe");
        assert!(tail.text().ends_with("\u{fffd}\u{fffd}"));
    }
}
