//! Values to text for people. PURE: the time, the width and the taste are arguments.

mod care;
mod checks;
mod connections;
mod events;
mod explain;
mod fencing;
mod groups;
mod hooks;
mod moving;
mod status;
mod text;
mod time;
mod voting;
mod will;

use jiff::Zoned;

pub use events::event;
pub use explain::explain;
pub use hooks::{hook, hooks};
pub use moving::{drained, draining, moved};
pub use status::status;
pub use will::decided;

/// How to show things.
#[derive(Clone, Debug)]
pub struct View {
    /// Columns there are.
    pub width: usize,
    /// Whether escape sequences for colour are understood.
    pub color: bool,
    /// Wall-clock time of the snapshot, in the zone of whoever reads it.
    pub now: Zoned,
    /// Every address, however many.
    pub all: bool,
}
