//! `vipctl hook`: how the hooks do, and how one call went.

use super::View;
use super::text::{Row, Tone, cell, clean, table};
use super::time::Clocks;
use crate::api::HookReport;
use crate::core::status::{HookStatus, Status};

/// Every hook with its latest call.
pub fn hooks(status: &Status, view: &View) -> String {
    if status.hooks.is_empty() {
        return "The file has no hooks.\n".to_owned();
    }
    let clocks = Clocks { boot: status.now, wall: view.now.clone() };
    let rows: Vec<_> = status.hooks.iter().map(|hook| row(hook, &clocks)).collect();
    let titles = ["HOOK", "CALLS", "FAILED", "LEFT OUT", "LATEST", "FOR", "HOW", "TARGET"];
    table(&titles, &rows, view.width, view.color)
}

fn row(hook: &HookStatus, clocks: &Clocks) -> Row {
    let plain = |text: String| cell(text, Tone::Plain);
    let count = |n: u64| cell(n.to_string(), if n > 0 { Tone::Warn } else { Tone::Plain });
    let dash = || cell("-", Tone::Dim);
    let [latest, of, how] = hook.last.as_ref().map_or_else(
        || [dash(), dash(), dash()],
        |last| {
            let of = last.group.as_ref().map_or_else(String::new, |group| format!(" of {group}"));
            let how = match &last.failed {
                None => plain(format!("done in {} ms", last.took_ms)),
                Some(why) => cell(why, Tone::Bad),
            };
            [plain(clocks.ago(last.at)), plain(format!("{}{of}", last.kind)), how]
        },
    );
    let cells = vec![
        plain(hook.name.clone()),
        plain(hook.calls.to_string()),
        count(hook.failures),
        count(hook.dropped),
        latest,
        of,
        how,
        plain(hook.target.clone()),
    ];
    Row { cells, ..Row::default() }
}

/// How a call went that somebody asked for.
pub fn hook(report: &HookReport) -> String {
    let call = &report.call;
    let how = call.failed.as_deref().map_or_else(|| "done".to_owned(), clean);
    let lines =
        call.output.lines().flat_map(|line| ["  ".to_owned(), clean(line), "\n".to_owned()]);
    let said: String = lines.collect();
    format!(
        "{} ({}): {how}, after {} ms\n{said}",
        clean(&report.name),
        clean(&report.target),
        call.took_ms
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::status::HookCall;
    use crate::types::Instant;

    #[test]
    fn a_call_and_what_it_printed() {
        let call = HookCall {
            at: Instant::BOOT,
            kind: "active".into(),
            group: None,
            took_ms: 12,
            failed: Some("exit status 3".into()),
            output: "no mail\nto\x1b[31mday".into(),
        };
        let (name, target) = ("mail".to_owned(), "/etc/vipd/mail".to_owned());
        let text = hook(&HookReport { name, target, call });
        assert!(text.starts_with("mail (/etc/vipd/mail): exit status 3, after 12 ms\n  no mail\n"));
        assert!(!text.contains('\x1b'), "{text}");
    }
}
