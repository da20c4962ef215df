//! Agents that cut a node's power, for the core thread.

use crate::config::Device;
use crate::core::event::Power;

use super::service::Service;

impl Service {
    /// Has a device do something; the core thread is told what became of it.
    pub(super) fn fence(&self, run: u64, victim: String, device: Box<Device>, power: Power) {
        let _ = (run, victim, device, power);
    }
}
