//! The command lines of both binaries: help, man pages and completions come from here.

pub mod will;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use clap_mangen::Man;

/// Exit statuses of both binaries. 2 is clap's: the command line made no sense.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// What was asked about is bad, or it failed.
    pub const FAILED: u8 = 1;
    /// `vipctl`: vipd could not be asked.
    pub const UNREACHABLE: u8 = 3;
    /// `vipd`: the configuration is bad; starting again does not help (`EX_CONFIG`).
    pub const CONFIG: u8 = 78;
}

/// The API's socket in the runtime directory.
const SOCKET: &str = "vipd.sock";

const VIPD_EXIT: &str = "\
Exit status:
  0   stopped gracefully, or --check found no errors
  1   could not start or go on; another instance runs for the same node
  2   the command line makes no sense
  78  the configuration is bad: starting again does not help

Signals:
  SIGTERM, SIGINT  give up the addresses gracefully, then exit; but for SIGTERM of a restart
                   by systemd, leave as SIGUSR2 does
  SIGUSR2          exit and leave the addresses in place: the next vipd goes on with them, if it
                   starts before they expire; with a proxy that is a command, as SIGTERM
  SIGHUP           read the configuration again; a bad file changes nothing

Files:
  /etc/vipd/vipd.toml   the configuration, the same on every node
  /run/vipd/vipd.sock   the API, for vipctl
";

const VIPCTL_EXIT: &str = "\
Exit status:
  0  done; end of the output's reader and Ctrl-C count as done
  1  what was asked about is bad: check or doctor found errors, vipd refused, no such group; or
     it failed
  2  the command line makes no sense
  3  vipd could not be asked: not running, no permission, no answer in time
";

/// Keeps a floating IP on exactly one healthy load balancer
///
/// vipd speaks VRRP with the other nodes of its cluster, holds the virtual addresses while it is
/// Active, and takes care of the proxy behind them. Every node has the same configuration file; a
/// node finds itself in it by its host name.
#[derive(Clone, Debug, Parser)]
#[command(name = "vipd", version, after_long_help = VIPD_EXIT, max_term_width = 100)]
pub struct Vipd {
    /// Configuration file; with --witness it may be given several times, one for each cluster
    #[arg(short, long, value_name = "FILE", default_value = "/etc/vipd/vipd.toml")]
    pub config: Vec<PathBuf>,
    /// Only vote, as a witness of each cluster: holds nothing, and needs no capability
    #[arg(long)]
    pub witness: bool,
    /// Which node or witness of the file this is [default: the host name]
    #[arg(short, long, value_name = "NAME")]
    pub node: Option<String>,
    /// Directory of the socket and the lock; several instances on a machine need one each
    #[arg(long, value_name = "DIR", default_value = "/run/vipd", env = "VIPD_RUNTIME_DIR")]
    pub runtime_dir: PathBuf,
    /// Directory of what outlives a reboot: the configuration that every voter was last seen with
    #[arg(long, value_name = "DIR", default_value = "/var/lib/vipd", env = "VIPD_STATE_DIR")]
    pub state_dir: PathBuf,
    /// Directory of the kernel's gate, on a BPF file system
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/vipd", env = "VIPD_GATE_DIR")]
    pub gate_dir: PathBuf,
    /// What is logged: error, warn, info, debug, trace, off, or directives such as
    /// warn,vipd=debug
    #[arg(short, long, value_name = "LEVEL", default_value = "info", env = "VIPD_LOG")]
    pub log_level: String,
    /// Write down everything that happens, for `vipctl replay`; holds no secrets
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Check the configuration for this host and exit, touching nothing
    #[arg(long)]
    pub check: bool,
}

impl Vipd {
    /// The command line of this process; one that makes no sense ends it with status 2.
    pub fn from_command_line() -> Self {
        Self::parse().sound().unwrap_or_else(|error| error.exit())
    }

    /// What no argument can tell alone: several files are for a witness only.
    ///
    /// # Errors
    /// If there are several and it is none.
    pub fn sound(self) -> Result<Self, clap::Error> {
        if self.config.len() > 1 && !self.witness {
            let why = "several --config are for --witness only: a node is of one cluster";
            return Err(Self::command().error(ErrorKind::ArgumentConflict, why));
        }
        Ok(self)
    }

    /// The node's name: as given, else the host name.
    ///
    /// # Errors
    /// If the kernel's host name is not text.
    pub fn node_name(&self) -> io::Result<String> {
        match &self.node {
            Some(name) => Ok(name.clone()),
            None => host_name(),
        }
    }

    /// Where the API listens.
    pub fn socket(&self) -> PathBuf {
        self.runtime_dir.join(SOCKET)
    }
}

/// The kernel's host name.
///
/// # Errors
/// If it is not text.
pub fn host_name() -> io::Result<String> {
    nix::unistd::gethostname()?.into_string().map_err(|name: OsString| {
        io::Error::other(format!("the host name {} is not text; give --node", name.display()))
    })
}

/// Shows and steers vipd
#[derive(Clone, Debug, Parser)]
#[command(name = "vipctl", version, after_long_help = VIPCTL_EXIT, max_term_width = 100)]
#[command(subcommand_required = true, arg_required_else_help = true)]
pub struct Vipctl {
    /// Which daemon, and how to show it.
    #[command(flatten)]
    pub common: Common,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command of `vipctl` understands.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Runtime directory of the vipd to talk to
    #[arg(long, global = true, value_name = "DIR", default_value = "/run/vipd")]
    #[arg(env = "VIPD_RUNTIME_DIR")]
    pub runtime_dir: PathBuf,
    /// Its socket, where it is not vipd.sock in the runtime directory
    #[arg(long, global = true, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// When to use colours
    #[arg(long, global = true, value_enum, default_value_t, value_name = "WHEN")]
    pub color: When,
}

impl Common {
    /// The socket of the daemon meant.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| self.runtime_dir.join(SOCKET))
    }
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal, unless `NO_COLOR` is set.
    #[default]
    Auto,
    /// Into pipes, too.
    Always,
    /// Not at all.
    Never,
}

/// What `vipctl` can do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Who holds what, since when and why
    ///
    /// The groups in a table, then the peers, then what is wrong, worst first. Roles: Active holds
    /// the addresses; Backup listens, ready to take over; Init takes no part, and WHY says why
    /// not; Releasing is giving the addresses up. HOLDER is who is Active as far as this node
    /// hears. PRIO is the priority in force, with the configured one below where they differ. An
    /// address that is not where it should be has a word below it. With the name of a group, its
    /// protocol side and counters are shown, too.
    Status(StatusArgs),
    /// What happened, oldest first
    ///
    /// A line for each: time, mark (!! a human now, ! a human today), group, kind, and what
    /// happened for which reason. With --follow it goes on across a restart of vipd.
    Events(EventsArgs),
    /// Check a configuration file, without vipd; every mistake is pointed at
    Check(CheckArgs),
    /// Ask every fence device for its status, and look at this host; needs no vipd
    ///
    /// Of every node of the file, this one included, all at once; nothing is switched. NODE and
    /// LEVEL are those of the file, POWER is what the device says of the node. Run it where vipd
    /// runs, as root or as vipd's user, for the secrets.
    Doctor(DoctorArgs),
    /// Say for every node why it is or is not the one that holds a group
    ///
    /// Its priority, by how many points its health falls short, what speaks against it, what
    /// operators have decided; the checks of this node; and what would happen if the holder died
    /// now. POINTS count before PRIO. As this node knows it: of others it knows what they say of
    /// themselves, so ask there for the checks of another node.
    Explain {
        /// Which group
        group: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Hand a group over to a node, at once, and say how long nobody answered
    ///
    /// On any node. Only a group that is held by lease can be handed over; nothing of it is left
    /// behind: what the file says about priorities and preemption goes on.
    Move {
        /// Which group
        group: String,
        /// To which node
        node: String,
        /// Wait up to so many seconds for the connections that there are now to end
        ///
        /// New ones are served as before, and not waited for. Ctrl-C calls it off. What is left
        /// when the time is over is cut, as by a move without waiting.
        #[arg(long, value_name = "SECONDS", value_parser = drain)]
        drain: Option<Duration>,
    },
    /// What an operator decides
    #[command(flatten)]
    Will(will::WillCommand),
    /// Cut a node's power, say that it is off, or show what was done before
    ///
    /// `vipctl fence NODE` has vipd use the node's fence devices, level by level, verify that the
    /// power is off, and (unless the file says `action = "off"`) turn it on again. It asks before,
    /// and shows what happens until it is done.
    ///
    /// `vipctl fence confirm NODE` says that the node is off: for when no device can tell. Whatever
    /// waited for that goes on, so if the node is not off, two hosts may serve the same address.
    Fence(FenceArgs),
    /// Have vipd read its configuration again; a bad file changes nothing
    Reload,
    /// Call a hook with a sample event and show what it said, or show how the hooks do
    ///
    /// vipd calls it as it would on a transition: as the same user, in the same sandbox, with the
    /// same limit. The reason says that it is a test. Without NAME, every hook with its latest
    /// call.
    Hook(HookArgs),
    /// Make a key for what vipd tells the other hosts
    ///
    /// Without FILE it is printed; with FILE a file is made that its owner alone can read. All
    /// hosts need the same file. To change the key: add a new one on top of the file of each
    /// host, one after the other, and reload; then take the old line out of each, and reload.
    Keygen(KeygenArgs),
    /// Go through what `vipd --record` wrote again, and show where this version does otherwise
    Replay {
        /// The trace
        file: PathBuf,
    },
    /// Print the JSON schema of the configuration file, for editors
    Schema,
    /// Print a completion script, e.g. `vipctl completions bash > /etc/bash_completion.d/vipctl`
    Completions {
        /// For which shell
        shell: Shell,
        /// Of which program
        #[arg(value_enum, default_value_t)]
        program: Program,
    },
    /// Write the man pages into a directory, or print vipctl's
    Man {
        /// Where to
        dir: Option<PathBuf>,
    },
}

/// `vipctl status`.
#[derive(Clone, Debug, Args)]
pub struct StatusArgs {
    /// Only this group, in detail
    pub group: Option<String>,
    /// As JSON; with --watch a line for each snapshot
    #[arg(long)]
    pub json: bool,
    /// Again and again until Ctrl-C, every so many seconds [default: 1]
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1")]
    #[arg(value_parser = seconds)]
    pub watch: Option<Duration>,
    /// Every address of groups that have many
    #[arg(short, long)]
    pub all: bool,
}

/// `vipctl events`.
#[derive(Clone, Debug, Args)]
pub struct EventsArgs {
    /// As JSON, a line for each
    #[arg(long)]
    pub json: bool,
    /// Go on with what happens from now on, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Not more than the latest so many; vipd keeps 4096
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50)]
    pub limit: usize,
    /// Only those of this group
    #[arg(short, long, value_name = "GROUP")]
    pub group: Option<String>,
}

/// `vipctl check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Configuration file
    #[arg(default_value = "/etc/vipd/vipd.toml")]
    pub file: PathBuf,
    /// Also whether it suits this node
    #[arg(short, long, value_name = "NAME")]
    pub node: Option<String>,
    /// Warnings are errors
    #[arg(long)]
    pub strict: bool,
}

/// `vipctl fence`.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub struct FenceArgs {
    /// What else than to cut the power
    #[command(subcommand)]
    pub command: Option<FenceCommand>,
    /// Whose power to cut
    pub node: Option<String>,
    /// Do not ask
    #[arg(short, long)]
    pub yes: bool,
}

/// What `vipctl fence` can do besides.
#[derive(Clone, Debug, Subcommand)]
pub enum FenceCommand {
    /// Say that a node is off, as a human who has seen to that
    Confirm {
        /// Which node
        node: String,
        /// Do not ask
        #[arg(short, long)]
        yes: bool,
    },
    /// What was done and said about fencing, oldest first; kept over restarts
    History {
        /// As JSON, a line for each
        #[arg(long)]
        json: bool,
    },
}

/// `vipctl hook`.
#[derive(Clone, Debug, Args)]
pub struct HookArgs {
    /// Which hook
    pub name: Option<String>,
    /// What the group seems to become
    #[arg(long, value_name = "STATE", default_value = "active", requires = "name")]
    #[arg(value_parser = ["active", "backup", "fault", "stop"])]
    pub state: String,
    /// Which group it seems to be [default: the first one of the hook]
    #[arg(long, value_name = "GROUP", requires = "name")]
    pub group: Option<String>,
}

/// `vipctl doctor`.
#[derive(Clone, Debug, Args)]
pub struct DoctorArgs {
    /// Configuration file
    #[arg(default_value = "/etc/vipd/vipd.toml")]
    pub file: PathBuf,
    /// Which node of the file this host is [default: the host name]
    #[arg(short, long, value_name = "NAME")]
    pub node: Option<String>,
    /// Directory of the kernel's gate
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/vipd", env = "VIPD_GATE_DIR")]
    pub gate_dir: PathBuf,
}

/// `vipctl keygen`.
#[derive(Clone, Debug, Args)]
pub struct KeygenArgs {
    /// File to make; one that is there is never overwritten
    pub file: Option<PathBuf>,
    /// Put the key on top of those in FILE, whose owner and mode stay
    #[arg(long, requires = "file")]
    pub add: bool,
}

/// Either program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Program {
    /// The command.
    #[default]
    Vipctl,
    /// The daemon.
    Vipd,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|s| (0.1..=3600.0).contains(s));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| {
        "expected seconds from 0.1 to 3600; a group's name goes before --watch".to_owned()
    })
}

/// `30s`, or `30`.
fn drain(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text);
    let seconds = number.parse().ok().filter(|s| (1..=86_400).contains(s));
    seconds.map(Duration::from_secs).ok_or_else(|| "expected seconds from 1s to 86400s".to_owned())
}

/// The completion script of a program.
pub fn completions(shell: Shell, program: Program) -> Vec<u8> {
    let (mut command, name) = match program {
        Program::Vipctl => (Vipctl::command(), "vipctl"),
        Program::Vipd => (Vipd::command(), "vipd"),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}

/// Every man page with its file name; vipctl's comes first.
///
/// # Errors
/// None in memory, but the renderer says it could fail.
pub fn man_pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut vipctl = Vipctl::command().disable_help_subcommand(true);
    vipctl.build();
    let subcommands: Vec<_> = vipctl
        .get_subcommands()
        .map(|sub| {
            let name = format!("vipctl-{}", sub.get_name());
            sub.clone().name(name).after_long_help(VIPCTL_EXIT)
        })
        .collect();
    [vipctl, Vipd::command()].iter().chain(&subcommands).map(page).collect()
}

fn page(command: &clap::Command) -> io::Result<(String, Vec<u8>)> {
    let name = command.get_name().to_owned();
    let also = if name == "vipctl" { "vipd" } else { "vipctl" };
    let man = Man::new(command.clone())
        .section("8")
        .manual("vipd")
        .source(concat!("vipd ", env!("CARGO_PKG_VERSION")));
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_options_section(&mut text)?;
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    if let Some(help) = command.get_after_long_help() {
        text.extend(sections(&help.to_string()).bytes());
    }
    text.extend(format!(".SH \"SEE ALSO\"\n.BR {also} (8)\n").bytes());
    Ok((format!("{name}.8"), text))
}

/// `Exit status:` and the indented table below it, as a section of a man page.
fn sections(help: &str) -> String {
    let mut out = String::new();
    for line in help.lines() {
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        match (line.strip_prefix("  "), line.strip_suffix(':')) {
            (Some(item), _) => {
                let (head, text) = item.split_once("  ").unwrap_or((item, ""));
                out += &[".TP\n\\fB", head, "\\fR\n", text.trim_start(), "\n"].concat();
            }
            (None, Some(title)) => out += &[".SH \"", &title.to_uppercase(), "\"\n"].concat(),
            (None, None) => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_definitions_are_sound() {
        Vipd::command().debug_assert();
        Vipctl::command().debug_assert();
    }

    #[test]
    fn only_a_witness_is_of_several_clusters() {
        let parse = |line: &str| {
            Vipd::try_parse_from(line.split(' ')).and_then(Vipd::sound).map(|v| v.config)
        };
        assert_eq!(parse("vipd").unwrap(), [PathBuf::from("/etc/vipd/vipd.toml")]);
        assert_eq!(parse("vipd -c a").unwrap(), [PathBuf::from("a")]);
        let two = ["a", "b"].map(PathBuf::from);
        assert_eq!(parse("vipd --witness -c a --config b").unwrap(), two);
        let refused = parse("vipd -c a -c b").unwrap_err();
        assert!(refused.to_string().contains("--witness only"), "{refused}");
        assert_eq!(refused.exit_code(), 2);
    }

    #[test]
    fn the_group_goes_before_watch() {
        let parse = |line: &str| Vipctl::try_parse_from(line.split(' '));
        let Command::Status(s) = parse("vipctl status pg --watch").unwrap().command else {
            panic!("status");
        };
        assert_eq!((s.group.as_deref(), s.watch), (Some("pg"), Some(Duration::from_secs(1))));
        let Command::Status(s) = parse("vipctl status --watch 0.5").unwrap().command else {
            panic!("status");
        };
        assert_eq!((s.group, s.watch), (None, Some(Duration::from_millis(500))));
        for bad in ["pg", "0", "-1", "inf", "nan"] {
            assert!(parse(&format!("vipctl status --watch={bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_page_for_each_command_with_its_exit_statuses() {
        let pages = man_pages().unwrap();
        let names: Vec<_> = pages.iter().map(|(n, _)| n.as_str()).collect();
        assert_eq!(names[..3], ["vipctl.8", "vipd.8", "vipctl-status.8"]);
        assert_eq!(names.len(), 22);
        for (name, text) in &pages {
            let text = String::from_utf8(text.clone()).unwrap();
            assert!(text.contains(".SH \"EXIT STATUS\"\n.TP\n\\fB0\\fR\n"), "{name}: {text}");
        }
    }
}
