//! A program ends with status 0.

use std::time::Duration;

use super::super::hook::{self, Outcome, Script};

pub(super) struct Run {
    pub(super) argv: Vec<String>,
    pub(super) user: Option<String>,
}

impl Run {
    pub(super) async fn look(&self, limit: Duration) -> Result<String, String> {
        let script =
            Script { argv: self.argv.clone(), user: self.user.clone(), ..Script::default() };
        let Outcome { result, output } = hook::run(script, limit).await;
        let last = output.lines().last().unwrap_or_default();
        let last: String = last.chars().take(200).collect();
        match (result, last.is_empty()) {
            (Ok(()), true) => Ok("exit status 0".to_owned()),
            (Ok(()), false) => Ok(last),
            (Err(why), true) => Err(why),
            (Err(why), false) => Err(format!("{why}: {last}")),
        }
    }
}
