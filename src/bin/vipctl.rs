//! `vipctl`: arguments to one request to words, a table or JSON.

#[path = "vipctl/explain.rs"]
mod explain;
#[path = "vipctl/will.rs"]
mod will;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use jiff::Zoned;
use serde::Serialize;
use vipd::api::FenceOrder;
use vipd::api::client::{Client, ClientError};
use vipd::api::draining;
use vipd::api::view::{self, View};
use vipd::cli::{
    self, CheckArgs, Command, Common, DoctorArgs, EventsArgs, FenceArgs, FenceCommand, HookArgs,
    KeygenArgs, StatusArgs, Vipctl, When, exit,
};
use vipd::config::{self, Member, Severity};
use vipd::core::status::Status;
use vipd::daemon;
use vipd::io::events::{CAPACITY, Page, Record, Want};
use vipd::io::fence;
use vipd::io::fence::check::Finding;

use vipd::io::secret::{self, SecretError};
use vipd::io::trust::{self, Distrust};

/// Columns where there is no terminal to ask.
const WIDTH: usize = 100;
/// How long one request waits for events; vipd would wait no longer than 30 s.
const WAIT: Duration = Duration::from_secs(25);
/// Between attempts while vipd is away.
const RETRY: Duration = Duration::from_secs(1);
/// Home; then each line is followed by [`ERASE_LINE`], and the last by [`ERASE_REST`].
const HOME: &str = "\x1b[H";
const ERASE_LINE: &str = "\x1b[K";
const ERASE_REST: &str = "\x1b[J";
const CLEAR: &str = "\x1b[2J";

fn main() -> ExitCode {
    let args = Vipctl::parse();
    let failure = match run(&args) {
        Ok(status) => return status.into(),
        // Whoever read our output has enough of it.
        Err(Failure::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => {
            return exit::OK.into();
        }
        Err(failure) => failure,
    };
    complain(&args.common, &failure.to_string());
    failure.exit_status().into()
}

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot write: {0}")]
    Output(io::Error),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("{0}")]
    Other(String),
}

impl Failure {
    fn exit_status(&self) -> u8 {
        match self {
            Self::Client(e) if !e.is_refusal() => exit::UNREACHABLE,
            Self::Client(_) | Self::Secret(_) | Self::Output(_) | Self::Other(_) => exit::FAILED,
        }
    }
}

fn run(args: &Vipctl) -> Result<u8, Failure> {
    let common = &args.common;
    match &args.command {
        Command::Status(args) => on_runtime(status(common, args)),
        Command::Events(args) => on_runtime(events(common, args)),
        Command::Replay { file } => replay(file),
        Command::Move { group, node, drain } => on_runtime(hand_over(common, group, node, *drain)),
        Command::Explain { group, json } => on_runtime(explain::explain(common, group, *json)),
        Command::Will(command) => on_runtime(will::decide(common, command)),
        Command::Fence(args) => on_runtime(fence(common, args)),
        Command::Hook(args) => on_runtime(hook(common, args)),
        Command::Reload => on_runtime(reload(common)),
        Command::Check(args) => check(common, args),
        Command::Doctor(args) => on_runtime(doctor(common, args)),
        Command::Keygen(args) => keygen(args),
        Command::Schema => print(config::schema().as_bytes()).map(|()| exit::OK),
        Command::Completions { shell, program } => {
            print(&cli::completions(*shell, *program)).map(|()| exit::OK)
        }
        Command::Man { dir } => man(dir.as_deref()),
    }
}

/// Runs until the work is done or the user has enough of it.
fn on_runtime(work: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    runtime()?.block_on(async {
        tokio::select! {
            done = work => done,
            Ok(()) = tokio::signal::ctrl_c() => Ok(exit::OK),
        }
    })
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::Other(format!("cannot start: {e}")))
}

async fn status(common: &Common, args: &StatusArgs) -> Result<u8, Failure> {
    let client = Client::new(common.socket());
    let Some(period) = args.watch else {
        print(picture(&client.status().await?, common, args)?.as_bytes())?;
        return Ok(exit::OK);
    };
    let is_screen = io::stdout().is_terminal() && !args.json;
    if is_screen {
        print(CLEAR.as_bytes())?;
    }
    loop {
        let picture = match client.status().await {
            Ok(status) => picture(&status, common, args)?,
            // Somebody who watches wants to see it come back.
            Err(e) if is_screen => format!("{}\n\n{e}\n", Zoned::now().strftime("%H:%M:%S")),
            Err(e) => return Err(e.into()),
        };
        print(if is_screen { screenful(&picture) } else { picture }.as_bytes())?;
        tokio::time::sleep(period).await;
    }
}

fn picture(status: &Status, common: &Common, args: &StatusArgs) -> Result<String, Failure> {
    let group = args.group.as_deref();
    let text = if args.json {
        json(status, group, args.watch.is_some())
    } else {
        view::status(status, group, &view(common, args))
    };
    text.ok_or_else(|| {
        let all = std::iter::once(status).chain(&status.further);
        let names: Vec<_> = all.flat_map(|s| &s.groups).map(|g| g.name.as_str()).collect();
        let name = group.unwrap_or_default();
        Failure::Other(format!("there is no group {name}; there is: {}", names.join(", ")))
    })
}

fn json(status: &Status, group: Option<&str>, compact: bool) -> Option<String> {
    let mut status = status.clone();
    for status in &mut status.further {
        status.groups.retain(|g| group.is_none_or(|name| g.name == name));
    }
    status.further.retain(|s| group.is_none() || !s.groups.is_empty());
    status.groups.retain(|g| group.is_none_or(|name| g.name == name));
    if group.is_some() && status.groups.is_empty() && status.further.is_empty() {
        return None;
    }
    let text = if compact {
        serde_json::to_string(&status)
    } else {
        serde_json::to_string_pretty(&status)
    };
    Some(text.expect("a status has only string keys") + "\n")
}

fn view(common: &Common, args: &StatusArgs) -> View {
    let color = stdout_color(common.color);
    View { width: size().0, color, now: Zoned::now(), all: args.all }
}

/// As much of the picture as the screen has lines, drawn over the last one without flicker.
fn screenful(picture: &str) -> String {
    let height = size().1.unwrap_or(usize::MAX).saturating_sub(1).max(1);
    let mut lines: Vec<_> = picture.lines().take(height).collect();
    if picture.lines().count() > height {
        lines.pop();
        lines.push("... the screen is too small for the rest");
    }
    let lines: String = lines.into_iter().flat_map(|l| [l, ERASE_LINE, "\n"]).collect();
    [HOME, &lines, ERASE_REST].concat()
}

/// Columns, and lines if there is a terminal.
fn size() -> (usize, Option<usize>) {
    if let Some((columns, lines)) = terminal_size::terminal_size_of(io::stdout()) {
        return (columns.0.into(), Some(lines.0.into()));
    }
    let columns = std::env::var("COLUMNS").ok().and_then(|c| c.parse().ok());
    (columns.unwrap_or(WIDTH), None)
}

async fn events(common: &Common, args: &EventsArgs) -> Result<u8, Failure> {
    let client = Client::new(common.socket());
    let group = args.group.as_deref();
    let latest = Want { after: None, limit: args.limit, group };
    let page = client.events(latest, Duration::ZERO).await?;
    show(&page, common, args)?;
    if args.follow { follow(&client, page.last, common, args).await } else { Ok(exit::OK) }
}

/// Shows what comes after `last`, for ever, whether vipd is away for a while or not.
async fn follow(
    client: &Client,
    last: u64,
    common: &Common,
    args: &EventsArgs,
) -> Result<u8, Failure> {
    let mut want = Want { after: Some(last), limit: CAPACITY, group: args.group.as_deref() };
    let mut is_away = false;
    loop {
        match client.events(want, WAIT).await {
            Ok(page) => {
                is_away = false;
                want.after = Some(page.last);
                show(&page, common, args)?;
            }
            Err(e) => {
                if !is_away {
                    complain(common, &format!("{e}\nwaiting for it to come back"));
                }
                is_away = true;
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn show(page: &Page, common: &Common, args: &EventsArgs) -> Result<(), Failure> {
    if page.missed > 0 {
        complain(common, &format!("{} events came too fast and are lost", page.missed));
    }
    let zone = jiff::tz::TimeZone::system();
    let color = stdout_color(common.color);
    let line = |record| {
        if args.json { to_json_line(record) } else { view::event(record, &zone, color) }
    };
    print(page.events.iter().map(line).collect::<String>().as_bytes())
}

fn to_json_line(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("an event has only string keys") + "\n"
}

/// Moves a group, after its connections have ended if that is asked for, and says what that cost.
async fn hand_over(
    common: &Common,
    group: &str,
    node: &str,
    drain: Option<Duration>,
) -> Result<u8, Failure> {
    let client = Client::new(common.socket());
    if let Some(limit) = drain {
        // Whoever does not listen waits all the same.
        let tell = |text: &str| drop(io::stderr().write_all(text.as_bytes()));
        let waited = draining::drain(&client, (group, node), limit, tell).await?;
        waited.map_err(Failure::Other)?;
    }
    print(view::moved(&client.hand_over(group, node).await?).as_bytes())?;
    Ok(exit::OK)
}

async fn fence(common: &Common, args: &FenceArgs) -> Result<u8, Failure> {
    match (&args.command, &args.node) {
        (Some(FenceCommand::History { json }), _) => history(common, *json).await,
        (Some(FenceCommand::Confirm { node, yes }), _) => confirm(common, node, *yes).await,
        (None, Some(node)) => cut(common, node, args.yes).await,
        (None, None) => Err(Failure::Other("which node? see vipctl fence --help".to_owned())),
    }
}

async fn history(common: &Common, json: bool) -> Result<u8, Failure> {
    let records = Client::new(common.socket()).fence_history().await?;
    let zone = jiff::tz::TimeZone::system();
    let color = stdout_color(common.color);
    if records.is_empty() && !json {
        print(b"nothing was fenced, as far as this node remembers\n")?;
    }
    let line = |record| {
        if json { to_json_line(record) } else { view::event(record, &zone, color) }
    };
    print(records.iter().map(line).collect::<String>().as_bytes())?;
    Ok(exit::OK)
}

/// A human takes the responsibility.
async fn confirm(common: &Common, node: &str, yes: bool) -> Result<u8, Failure> {
    let question = format!(
        "This says that {node} is switched off, and that you have seen to it. What waits for that \
         goes on at once:\nif {node} is not off, two hosts may serve the same address. Is {node} \
         off?"
    );
    if !yes && !agreed(&question)? {
        return Err(Failure::Other("nothing was confirmed".to_owned()));
    }
    Client::new(common.socket()).fence(node, FenceOrder::Confirm).await?;
    print(format!("{node} counts as off\n").as_bytes())?;
    Ok(exit::OK)
}

/// Has the power cut, and shows what happens until it is, or is not.
async fn cut(common: &Common, node: &str, yes: bool) -> Result<u8, Failure> {
    let client = Client::new(common.socket());
    let question = format!("This cuts the power of {node} at once. Go on?");
    if !yes && !agreed(&question)? {
        return Err(Failure::Other("nothing was done".to_owned()));
    }
    let latest = Want { after: None, limit: 1, group: None };
    let mut after = client.events(latest, Duration::ZERO).await?.last;
    client.fence(node, FenceOrder::Off).await?;
    let zone = jiff::tz::TimeZone::system();
    let color = stdout_color(common.color);
    loop {
        let want = Want { after: Some(after), limit: CAPACITY, group: None };
        let page = client.events(want, WAIT).await?;
        after = page.last;
        let about = |record: &&Record| {
            record.note.kind.starts_with("fence-") && record.note.about.as_deref() == Some(node)
        };
        for record in page.events.iter().filter(about) {
            print(view::event(record, &zone, color).as_bytes())?;
            match record.note.kind.as_str() {
                "fence-done" => return Ok(exit::OK),
                "fence-failed" | "fence-refused" => return Ok(exit::FAILED),
                _ => {}
            }
        }
    }
}

/// Whether a human says yes; without a terminal nobody does.
fn agreed(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Other(format!("{question}\nThere is no terminal to ask: use --yes")));
    }
    print(format!("{question} [y/N] ").as_bytes())?;
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|e| Failure::Other(format!("cannot read the answer: {e}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Tries a hook, or tells how all of them do.
async fn hook(common: &Common, args: &HookArgs) -> Result<u8, Failure> {
    let client = Client::new(common.socket());
    let Some(name) = &args.name else {
        let status = client.status().await?;
        let color = stdout_color(common.color);
        let view = View { width: size().0, color, now: Zoned::now(), all: true };
        print(view::hooks(&status, &view).as_bytes())?;
        return Ok(exit::OK);
    };
    let report = client.hook(name, args.group.as_deref(), &args.state).await?;
    print(view::hook(&report).as_bytes())?;
    Ok(if report.call.failed.is_some() { exit::FAILED } else { exit::OK })
}

async fn reload(common: &Common) -> Result<u8, Failure> {
    let report = match Client::new(common.socket()).reload().await {
        Err(e) if e.is_refusal() => {
            let text = format!("vipd refused, and goes on unchanged\n{e}");
            return Err(Failure::Other(text));
        }
        report => report?,
    };
    let mut text = report.warnings;
    if report.changes.is_empty() {
        text += "nothing changed: the file means what it meant before\n";
    }
    for change in report.changes {
        text += &change;
        text.push('\n');
    }
    print(text.as_bytes())?;
    Ok(exit::OK)
}

/// What the daemon would say of the file, and of the files it names; then what it means.
fn check(common: &Common, args: &CheckArgs) -> Result<u8, Failure> {
    let color = stdout_color(common.color);
    let (name, text) = file(&args.file)?;
    let (config, mut found) = match config::parse(&text) {
        Ok(good) => good,
        Err(mistakes) => {
            print(config::render(&mistakes, &name, &text, color).as_bytes())?;
            return Ok(exit::FAILED);
        }
    };
    let mut out = config::render(&found, &name, &text, color);
    for (path, vips) in config.proxy_files() {
        // On the host where one checks there need be no proxy.
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        let more = config::lint::haproxy(&text, &vips);
        out += &config::render(&more, &path.display().to_string(), &text, color);
        found.extend(more);
    }
    let (mut errors, mut warnings) = (false, !found.is_empty());
    for hook in &config.hooks {
        let (text, bad) = scripted(hook);
        errors |= bad;
        out += &text;
    }
    let devices = devices(&config)?;
    for finding in &devices {
        errors |= finding.severity == Some(Severity::Error);
        warnings |= finding.severity.is_some();
        out += &say(finding, color);
    }
    for line in config.meaning() {
        out += &line;
        out.push('\n');
    }
    print(out.as_bytes())?;
    if let Some(node) = &args.node {
        config.find(node).map_err(|e| Failure::Other(e.to_string()))?;
    }
    Ok(if errors || (args.strict && warnings) { exit::FAILED } else { exit::OK })
}

/// What is wrong with the script of a hook on this host, and whether vipd would refuse it.
///
/// Who runs it without `user` is for vipd to find out: its own user, or nobody.
fn scripted(hook: &config::Hook) -> (String, bool) {
    let config::HookKind::Run { argv, user } = &hook.what else { return Default::default() };
    let path = Path::new(argv.first().map_or("", String::as_str));
    let users = user.as_deref().map_or(vec!["nobody", "vipd"], |user| vec![user]);
    let name = &hook.name;
    let uids: Vec<_> = users.iter().filter_map(|user| trust::uid(user)).collect();
    match trust::look(path, &uids) {
        Ok(()) if user.is_some() && uids.is_empty() => {
            (format!("warning: hook {name}: no user {} on this host\n", users.concat()), false)
        }
        Ok(()) => Default::default(),
        // On the host where one checks it need not be.
        Err(why @ Distrust::Missing(_)) => {
            (format!("note: hook {name}: {why} on this host\n"), false)
        }
        Err(why) => (format!("error: hook {name}: vipd would refuse it: {why}\n"), true),
    }
}

/// A file's name, as people are shown it, and what is in it.
fn file(path: &Path) -> Result<(String, String), Failure> {
    let name = path.display().to_string();
    match std::fs::read_to_string(path) {
        Ok(text) => Ok((name, text)),
        Err(e) => Err(Failure::Other(format!("cannot read {name}: {e}"))),
    }
}

/// The fence devices held against what the agents on this host say of themselves.
fn devices(config: &config::Config) -> Result<Vec<Finding>, Failure> {
    if !config.has_devices() {
        return Ok(Vec::new());
    }
    let scope = format!("vipctl check {}", std::process::id());
    let agents = fence::Agents::new(Path::new(&scope));
    runtime()?.block_on(async { Ok(fence::check::devices(&agents, config).await) })
}

fn say(finding: &Finding, color: bool) -> String {
    let (word, on) = match finding.severity {
        Some(Severity::Error) => ("error", "\x1b[1;31m"),
        Some(Severity::Warning) => ("warning", "\x1b[33m"),
        None => ("note", "\x1b[1m"),
    };
    let word = if color { format!("{on}{word}\x1b[0m") } else { word.to_owned() };
    let of = if finding.node.is_empty() { String::new() } else { format!("{}: ", finding.node) };
    format!("{word}: {of}{}: {}\n", finding.agent, finding.text)
}

async fn doctor(common: &Common, args: &DoctorArgs) -> Result<u8, Failure> {
    let color = stdout_color(common.color);
    let (name, text) = file(&args.file)?;
    let config = match config::parse(&text) {
        Ok((config, _)) => config,
        Err(mistakes) => {
            print(config::render(&mistakes, &name, &text, color).as_bytes())?;
            return Ok(exit::FAILED);
        }
    };
    let here = match &args.node {
        Some(node) => Some(config.find(node).map_err(|e| Failure::Other(e.to_string()))?),
        None => cli::host_name().ok().and_then(|name| config.find(&name).ok()),
    };
    let here = match here {
        Some(Member::Node(ix)) => Some(ix),
        Some(Member::Witness(_)) | None => None,
    };
    let report = daemon::doctor::examine(&config, here, &args.gate_dir).await;
    print(report.text(color).as_bytes())?;
    Ok(if report.is_bad() { exit::FAILED } else { exit::OK })
}

fn keygen(args: &KeygenArgs) -> Result<u8, Failure> {
    let Some(file) = &args.file else {
        return print(secret::new_key()?.as_bytes()).map(|()| exit::OK);
    };
    let id = if args.add { secret::add(file)? } else { secret::create(file)? };
    print(format!("{}: key {id}\n", file.display()).as_bytes()).map(|()| exit::OK)
}

fn man(dir: Option<&Path>) -> Result<u8, Failure> {
    let pages = cli::man_pages().map_err(Failure::Output)?;
    let Some(dir) = dir else {
        let first = pages.first().map_or(&[][..], |(_, text)| text);
        return print(first).map(|()| exit::OK);
    };
    for (name, text) in pages {
        let path = dir.join(name);
        std::fs::create_dir_all(dir)
            .and_then(|()| std::fs::write(&path, text))
            .map_err(|e| Failure::Other(format!("cannot write {}: {e}", path.display())))?;
    }
    Ok(exit::OK)
}

/// `println!` would panic when the reader is gone.
fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text).and_then(|()| out.flush()).map_err(Failure::Output)
}

fn complain(common: &Common, text: &str) {
    let color = wants_color(common.color, io::stderr().is_terminal());
    let (on, off) = if color { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    // There is nowhere left to say that stderr is closed.
    let _ = writeln!(io::stderr().lock(), "{on}vipctl:{off} {}", text.trim_end());
}

fn stdout_color(when: When) -> bool {
    wants_color(when, io::stdout().is_terminal())
}

fn wants_color(when: When, is_terminal: bool) -> bool {
    match when {
        When::Always => true,
        When::Never => false,
        When::Auto => {
            is_terminal
                && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
                && std::env::var_os("TERM").is_none_or(|t| t != "dumb")
        }
    }
}

/// Goes through a trace; what differs is shown, and makes it fail.
fn replay(file: &Path) -> Result<u8, Failure> {
    let told = daemon::replay::replay(file);
    let told = told.map_err(|e| Failure::Other(format!("{}: {e}", file.display())))?;
    let mut out = io::stdout().lock();
    let mut say = |line: String| writeln!(out, "{line}").map_err(Failure::Output);
    say(format!(
        "{} of {} (vipd {}): {} steps over {:.1} s, {} actions",
        file.display(),
        told.node,
        told.version,
        told.steps,
        told.span.as_secs_f64(),
        told.actions
    ))?;
    for d in &told.differences {
        say(format!("\nline {}, after {:.6} s: {}", d.line, d.after.as_secs_f64(), d.event))?;
        for (sign, words) in [('-', &d.missing), ('+', &d.added)] {
            for word in words {
                say(format!("  {sign} {word}"))?;
            }
        }
        if d.missing.is_empty() && d.added.is_empty() {
            say("  the same, in another order or number".to_owned())?;
        }
    }
    if told.gap {
        say("\nthe trace has a gap: nothing behind it was compared".to_owned())?;
    }
    if told.differences.is_empty() {
        say("this version does the same".to_owned())?;
        return Ok(exit::OK);
    }
    Ok(exit::FAILED)
}
