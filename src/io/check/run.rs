//! A program ends with status 0.

use std::time::Duration;

use tokio::time::timeout;

use super::super::hook::{self, Outcome, Script};
use super::super::proxy::spawn::Child;

pub(super) struct Run {
    pub(super) argv: Vec<String>,
    pub(super) user: Option<String>,
    /// An earlier run that goes on after SIGKILL: in an uninterruptible sleep, most likely.
    pub(super) immortal: Option<Child>,
}

impl Run {
    pub(super) async fn look(&mut self, limit: Duration) -> Result<String, String> {
        if let Some(child) = &mut self.immortal {
            let gone = timeout(Duration::ZERO, child.ended()).await.is_ok();
            if !gone {
                return Err("an earlier run goes on after SIGKILL".to_owned());
            }
            self.immortal = None;
        }
        let script =
            Script { argv: self.argv.clone(), user: self.user.clone(), ..Script::default() };
        let (Outcome { result, output }, immortal) = hook::attempt(script, limit).await;
        self.immortal = immortal;
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
