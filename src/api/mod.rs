//! HTTP+JSON over the unix socket: status, events, commands.
