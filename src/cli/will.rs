//! What operators decide: `vipctl standby`, `maintenance`, `ban`, and what takes them back.

use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};

/// What an operator can decide.
#[derive(Clone, Debug, Subcommand)]
pub enum WillCommand {
    /// Have a node hold nothing and take nothing, until it is told to resume
    ///
    /// What it holds is handed over first. Kept over restarts and reboots, known to every node of
    /// a file with a `secret`, and listed in `vipctl status` until it is over. It asks before it
    /// leaves a group to nobody.
    Standby(StandbyArgs),
    /// End the standby of a node
    Resume {
        /// Which node [default: this one]
        node: Option<String>,
        /// How it is said, and shown
        #[command(flatten)]
        saying: Saying,
    },
    /// Hands off: nothing moves, nobody is fenced, no proxy is started or stopped
    ///
    /// Of one group, or of all. A holder goes on serving; if it dies, NOBODY TAKES OVER until the
    /// maintenance is off. Restart vipd as you like (`systemctl restart vipd`): what it holds stays
    /// where it is; but `stop` gives it up.
    Maintenance(MaintenanceArgs),
    /// Keep a node from one group, for a time
    ///
    /// As standby, but for one group, and it ends by itself.
    Ban(BanArgs),
    /// End the ban of a node from a group
    Unban {
        /// From which group
        group: String,
        /// Which node [default: this one]
        node: Option<String>,
        /// How it is said, and shown
        #[command(flatten)]
        saying: Saying,
    },
    /// Forget the failures of a group's proxy, or of all: it is tried at once
    ///
    /// And that a host was worse a while ago: it counts as well at once.
    Cleanup {
        /// Which group [default: all]
        group: Option<String>,
        /// On which node [default: on every one]
        #[arg(long)]
        node: Option<String>,
        /// How it is said, and shown
        #[command(flatten)]
        saying: Saying,
    },
}

/// How a decision is said, and shown.
#[derive(Clone, Debug, Args)]
pub struct Saying {
    /// Why, for whoever reads the status: at most 64 bytes
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// What became of it as JSON
    #[arg(long)]
    pub json: bool,
}

/// `vipctl standby`.
#[derive(Clone, Debug, Args)]
pub struct StandbyArgs {
    /// Which node [default: this one]
    pub node: Option<String>,
    /// End by itself after this time: 30m, 2h, 7d
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub lasts: Option<Duration>,
    /// Do not ask, also where a group is left to nobody
    #[arg(short, long, visible_alias = "force")]
    pub yes: bool,
    /// How it is said, and shown.
    #[command(flatten)]
    pub saying: Saying,
}

/// `vipctl maintenance`.
#[derive(Clone, Debug, Args)]
pub struct MaintenanceArgs {
    /// Whether hands are to be off
    #[arg(value_enum)]
    pub state: Switch,
    /// Of which group [default: of all]
    pub group: Option<String>,
    /// End by itself after this time: 30m, 2h, 7d
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub lasts: Option<Duration>,
    /// How it is said, and shown.
    #[command(flatten)]
    pub saying: Saying,
}

/// `vipctl ban`.
#[derive(Clone, Debug, Args)]
pub struct BanArgs {
    /// From which group
    pub group: String,
    /// Which node
    pub node: String,
    /// For how long: 30m, 2h, 7d
    #[arg(long = "for", value_name = "TIME", value_parser = time)]
    pub lasts: Duration,
    /// Do not ask, also where the group is left to nobody
    #[arg(short, long, visible_alias = "force")]
    pub yes: bool,
    /// How it is said, and shown.
    #[command(flatten)]
    pub saying: Saying,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Hands off.
    On,
    /// Managed again.
    Off,
}

/// `90s`, `30m`, `2h`, `7d`.
fn time(text: &str) -> Result<Duration, String> {
    let expected = || "expected a time such as 90s, 30m, 2h or 7d, up to 366d".to_owned();
    let end = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
    let (count, unit) = text.split_at(end);
    let count: u64 = count.parse().map_err(|_| expected())?;
    let seconds = match unit.trim_start() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(expected()),
    };
    let time = count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(expected)?;
    let longest = Duration::from_hours(366 * 24);
    if time.is_zero() || time > longest { Err(expected()) } else { Ok(time) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let rows = [("90s", 90), ("30m", 1800), ("5 min", 300), ("2h", 7200), ("7d", 604_800)];
        for (text, seconds) in rows {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for bad in ["", "7", "s", "0s", "1w", "-1s", "367d", "99999999999999999999s"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
