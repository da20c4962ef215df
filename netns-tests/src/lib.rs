//! The lab: hosts as network namespaces on bridges, with faults, captures, probes and real peers.
//!
//! The tests of the daemon and the demo are written with it. Nothing of it is visible outside of
//! the namespaces it makes: the root namespace gets no interface, no address and no daemon. All
//! of it goes when the [`Lab`] is dropped and also when its process is killed.
//!
//! ```no_run
//! # fn main() -> netns_tests::Result {
//! let lab = netns_tests::Lab::new("readme")?;
//! let hap1 = lab.host("hap1", &["192.168.34.132/24"])?;
//! let client = lab.host("client", &["192.168.34.200/24"])?;
//! assert!(client.run(&["ping", "-c1", "192.168.34.132"])?.status.success());
//! hap1.cut()?;
//! # Ok(())
//! # }
//! ```

#![allow(
    clippy::disallowed_methods,
    reason = "the lab measures and waits in real time; the rule is for the daemon"
)]
#![allow(
    clippy::missing_errors_doc,
    reason = "everything fails alike: the kernel or a program said no, and the error says which"
)]
#![allow(
    clippy::format_push_string,
    clippy::format_collect,
    reason = "files and commands are made once; the shorter form reads better"
)]

mod capture;
mod census;
pub mod clock;
pub mod cluster;
pub mod double;
mod echo;
mod error;
mod forge;
mod frame;
pub mod freezer;
pub mod front;
mod host;
pub mod http;
mod lab;
pub mod looking;
pub mod netns;
pub mod nspawn;
mod packet_socket;
pub mod paint;
pub mod peer;
mod power;
mod probe;
mod process;
pub mod qemu;
pub mod racked;
pub mod run;
pub mod session;
pub mod stats;
pub mod storm;
mod switch;
mod timeline;
pub mod trio;
pub mod usage;
mod watch;
mod worker;

pub use capture::{Capture, Verdict, hex};
pub use census::{Census, Round};
pub use clock::{Stamp, pause, wait_until};
pub use double::Double;
pub use error::{Error, Result};
pub use forge::{Dice, ForgedAdvert, Injector, udp_frame};
pub use frame::{Advert, Frame};
pub use host::Host;
pub use http::HttpProbe;
pub use lab::Lab;
pub use power::{Deeds, Fault as PowerFault, PowerSwitch};
pub use probe::Probe;
pub use process::{Proc, tree};
pub use switch::Cut;
pub use timeline::{Answer, Gap, Holding, Timeline};
pub use trio::Trio;
pub use watch::{AddressEvent, Watch};
