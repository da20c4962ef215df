//! What an operator decides: asked for, and told what became of it.

use std::time::Duration;

use vipd::api::client::Client;
use vipd::api::view;
use vipd::api::will::{Asked, leaves_nobody};
use vipd::cli::will::{Saying, Switch, WillCommand};
use vipd::cli::{Common, exit};
use vipd::core::will::{About, Topic};

use super::{Failure, agreed, print, to_json_line};

pub(super) async fn decide(common: &Common, command: &WillCommand) -> Result<u8, Failure> {
    let client = Client::new(common.socket());
    let (mut asked, saying, yes) = asked(command);
    asked.force = yes;
    if asked.on && !yes && matches!(asked.topic, Topic::Standby | Topic::Ban) {
        let status = client.status().await?;
        let node = asked.node.as_deref().unwrap_or(&status.node);
        let group = asked.group.as_deref();
        let about = group.map_or_else(|| About::standby(node), |group| About::ban(group, node));
        let left = leaves_nobody(&status, &about);
        if !left.is_empty() {
            let question = format!(
                "Nobody else can have {}, as far as is known here: clients would get no answer. Go \
                 on?",
                left.join(", ")
            );
            if !agreed(&question)? {
                return Err(Failure::Other("nothing was decided".to_owned()));
            }
            asked.force = true;
        }
    }
    let report = client.decide(&asked).await?;
    let text = if saying.json { to_json_line(&report) } else { view::decided(&report) };
    print(text.as_bytes())?;
    // What would be forgotten is not done.
    Ok(if report.not_kept.is_some() { exit::FAILED } else { exit::OK })
}

fn asked(command: &WillCommand) -> (Asked, &Saying, bool) {
    let of = |topic, on, node: Option<&String>, group: Option<&String>, saying: &Saying| Asked {
        topic,
        on,
        node: node.cloned(),
        group: group.cloned(),
        for_ms: None,
        why: saying.reason.clone(),
        by: operator(),
        force: false,
    };
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    match command {
        WillCommand::Standby(args) => {
            let asked = of(Topic::Standby, true, args.node.as_ref(), None, &args.saying);
            (Asked { for_ms: args.lasts.map(ms), ..asked }, &args.saying, args.yes)
        }
        WillCommand::Resume { node, saying } => {
            (of(Topic::Standby, false, node.as_ref(), None, saying), saying, false)
        }
        WillCommand::Maintenance(args) => {
            let on = args.state == Switch::On;
            let asked = of(Topic::Maintenance, on, None, args.group.as_ref(), &args.saying);
            (Asked { for_ms: args.lasts.map(ms), ..asked }, &args.saying, false)
        }
        WillCommand::Ban(args) => {
            let asked = of(Topic::Ban, true, Some(&args.node), Some(&args.group), &args.saying);
            (Asked { for_ms: Some(ms(args.lasts)), ..asked }, &args.saying, args.yes)
        }
        WillCommand::Unban { group, node, saying } => {
            (of(Topic::Ban, false, node.as_ref(), Some(group), saying), saying, false)
        }
        WillCommand::Cleanup { group, node, saying } => {
            (of(Topic::Cleanup, false, node.as_ref(), group.as_ref(), saying), saying, false)
        }
    }
}

/// Who is at the keyboard, as far as that is known: also behind sudo.
fn operator() -> Option<String> {
    let of = |name: &str| std::env::var(name).ok().filter(|user| !user.is_empty());
    of("SUDO_USER").or_else(|| of("USER")).or_else(|| of("LOGNAME"))
}
